/* compiler.h - every compiler extension that slm uses, behind a macro. */
#ifndef SLM_BASE_COMPILER_H
#define SLM_BASE_COMPILER_H

#if defined(__GNUC__) || defined(__clang__)
#define ATTR_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define ATTR_UNUSED __attribute__((unused))
#define ATTR_NOINLINE __attribute__((noinline))
#define ATTR_INLINE static inline __attribute__((always_inline))
/* Asks for the cache line of an address that will be read; any address is allowed. */
#define PREFETCH(p) __builtin_prefetch(p)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define ATTR_PRINTF(fmt, first)
#define ATTR_UNUSED
#define ATTR_NOINLINE
#define ATTR_INLINE static inline
#define PREFETCH(p) ((void)(p))
#define LIKELY(x) (x)
#define UNLIKELY(x) (x)
#endif

/* Before a short loop over a local array: unrolled, so that the array lives in registers. */
#if defined(__GNUC__) || defined(__clang__)
#define UNROLL_SHORT _Pragma("GCC unroll 8")
#else
#define UNROLL_SHORT
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_X86_KERNELS 1
#define ISA_AVX2 __attribute__((target("avx2,fma,f16c")))
#define ISA_AVX512                                                                                 \
    __attribute__((                                                                                \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,fma,f16c,avx2")))
#define ISA_AVX512BF16                                                                             \
    __attribute__((target(                                                                         \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16,fma,f16c,avx2")))
/* The tile instructions are known to gcc 11, clang 12 and later. */
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define HAVE_AMX_KERNELS 1
#define ISA_AMX                                                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,fma,f16c,"     \
                          "avx2,amx-tile,amx-int8,amx-bf16")))
#endif
/* What was written before is in memory behind this, for instructions whose operands in memory the
 * compiler does not know in full. */
#define COMPILER_BARRIER() __asm__ __volatile__("" : : : "memory")
/* Keeps a vector in a register here: sums that advance side by side stay side by side, instead of
 * being computed one after the other with everything else spilled. */
#define PIN_VECTOR(v) __asm__ __volatile__("" : "+v"(v))
#endif

#if defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ &&        \
    (defined(__GNUC__) || defined(__clang__))
#define HAVE_ARM_KERNELS 1
/* NEON belongs to every 64-bit ARM processor; what came later is asked for function by function.
 * Compilers whose arm_neon.h knows only what the whole file may use do without (clang before 16). */
/* Loads of what follows stay behind this: the scheduler would rather have them all at once, which
 * takes more registers than there are. */
#define LOADS_STAY() __asm__ __volatile__("" : : : "memory")
#if (defined(__clang__) && __clang_major__ >= 16) || (!defined(__clang__) && __GNUC__ >= 10)
#define HAVE_ARM_EXTENSIONS 1
#define ISA_NEON_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
#define ISA_NEON_BF16 __attribute__((target("arch=armv8.2-a+dotprod+bf16")))
#endif
#endif

/* Before a loop over a tile's registers: full unrolling, so that the arrays live in registers. */
#if defined(__GNUC__) || defined(__clang__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

/* Under AddressSanitizer, memory inside one allocation that no object owns is marked, so that an
 * overrun inside an arena block is found like one between two mallocs. */
#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define MEM_POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define MEM_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define MEM_POISON(p, n) ((void)(p), (void)(n))
#define MEM_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

/* One turn of a spin loop: tells the core that it waits, so that its sibling may run. */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define CPU_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define CPU_PAUSE() __asm__ __volatile__("yield")
#else
#define CPU_PAUSE() ((void)0)
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
