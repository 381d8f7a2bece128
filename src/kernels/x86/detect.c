/* detect.c - vector extensions by CPUID, and by XCR0 whether the system saves their registers.
 *
 * Source: Intel 64 and IA-32 Software Developer's Manual, volume 1, chapters 14 and 15 (detection
 * of AVX, AVX2 and AVX-512), chapter 18 (AMX), volume 2, CPUID. A processor may have instructions whose registers the
 * operating system does not keep across task switches; using those would be fatal. */
#include "kernels/x86/detect.h"

#include "base/compiler.h"

#ifdef HAVE_X86_KERNELS
#include <cpuid.h>
#include <immintrin.h>

#define BIT(word, n) ((word) >> (n)&1u)

#define XCR0_AVX 0x06u    /* XMM and YMM */
#define XCR0_AVX512 0xE6u /* the same, opmask, upper halves, ZMM 16..31 */
#define XCR0_AMX 0x60000u /* tile configuration and tile data */

/* Only called when CPUID says that the instruction exists. */
__attribute__((target("xsave"))) static unsigned saved_state(void) {
    return (unsigned)_xgetbv(0);
}

/* Leaf 1Dh: palette 1 is what matmul_amx.c is written for. */
static bool amx_complete(unsigned leaf7_d) {
    unsigned a, b, c, d;
    if (!BIT(leaf7_d, 24) /* TILE */ || !BIT(leaf7_d, 25) /* INT8 */ ||
        !BIT(leaf7_d, 22) /* BF16 */)
        return false;
    if (!__get_cpuid_count(0x1D, 0, &a, &b, &c, &d) || a < 1)
        return false;
    if (!__get_cpuid_count(0x1D, 1, &a, &b, &c, &d))
        return false;
    return (b & 0xFFFF) == 64 /* bytes per row */ && b >> 16 >= 8 /* tiles */ &&
           (c & 0xFFFF) == 16 /* rows */;
}

struct x86_features x86_detect(void) {
    struct x86_features f = { false, false, false, false };
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
    f.amx = f.avx512 && (saved & XCR0_AMX) == XCR0_AMX && amx_complete(d);
    if (f.avx512 && subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        f.avx512bf16 = BIT(a, 5);
    return f;
}
#endif
