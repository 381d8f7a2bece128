/* detect_arm.c - extensions of a 64-bit ARM processor, as the operating system states them.
 *
 * The registers that tell are not for programs to read; Linux passes what it found, and lets
 * programs use, in the auxiliary vector. Elsewhere counts what the compiler was told to assume.
 * Source: Linux, Documentation/arch/arm64/elf_hwcaps.rst and asm/hwcap.h. */
#include "kernels/arm/detect_arm.h"

#include "base/compiler.h"
#include "base/pool.h"

#ifdef HAVE_ARM_KERNELS
#define BIT(word, n) ((word) >> (n)&1u)

struct arm_features arm_detect(void) {
    struct arm_features f = { false, false };
#ifdef HAVE_ARM_EXTENSIONS
    uint64_t first = cpu_features(0), second = cpu_features(1);
    f.dot = BIT(first, 20); /* ASIMDDP */
    f.bf16 = f.dot && BIT(second, 14);
#ifdef __ARM_FEATURE_DOTPROD
    f.dot = true;
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    f.bf16 = true;
#endif
#endif
#endif
    return f;
}
#endif
