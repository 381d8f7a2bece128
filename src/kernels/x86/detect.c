/* detect.c - vector extensions by CPUID, and by XCR0 whether the system saves their registers.
 *
 * Source: Intel 64 and IA-32 Software Developer's Manual, volume 1, chapters 14 and 15 (detection
 * of AVX, AVX2 and AVX-512), volume 2, CPUID. A processor may have instructions whose registers the
 * operating system does not keep across task switches; using those would be fatal. */
#include "kernels/x86/detect.h"

#include "base/compiler.h"

#ifdef HAVE_X86_KERNELS
#include <cpuid.h>
#include <immintrin.h>

#define BIT(word, n) ((word) >> (n)&1u)

#define XCR0_AVX 0x06u    /* XMM and YMM */
#define XCR0_AVX512 0xE6u /* the same, opmask, upper halves, ZMM 16..31 */

/* Only called when CPUID says that the instruction exists. */
__attribute__((target("xsave"))) static unsigned saved_state(void) {
    return (unsigned)_xgetbv(0);
}

struct x86_features x86_detect(void) {
    struct x86_features f = { false, false, false };
    unsigned a, b, c, d, leaf1_c, subleaves;
    if (!__get_cpuid(1, &a, &b, &leaf1_c, &d) || !BIT(leaf1_c, 27)) /* OSXSAVE */
        return f;
    unsigned saved = saved_state();
    if (!__get_cpuid_count(7, 0, &subleaves, &b, &c, &d))
        return f;
    f.avx2 = (saved & XCR0_AVX) == XCR0_AVX && BIT(leaf1_c, 28) /* AVX */ &&
             BIT(leaf1_c, 12) /* FMA */ && BIT(leaf1_c, 29) /* F16C */ && BIT(b, 5) /* AVX2 */;
    f.avx512 = f.avx2 && (saved & XCR0_AVX512) == XCR0_AVX512 && BIT(b, 16) /* F */ &&
               BIT(b, 17) /* DQ */ && BIT(b, 30) /* BW */ && BIT(b, 31) /* VL */ &&
               BIT(c, 1) /* VBMI */ && BIT(c, 11) /* VNNI */;
    if (f.avx512 && subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        f.avx512bf16 = BIT(a, 5);
    return f;
}
#endif
