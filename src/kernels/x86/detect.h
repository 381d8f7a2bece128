/* detect.h - which vector extensions this processor and its system offer. */
#ifndef SLM_KERNELS_X86_DETECT_H
#define SLM_KERNELS_X86_DETECT_H

#include <stdbool.h>

struct x86_features {
    bool avx2;       /* AVX2, FMA and F16C */
    bool avx512;     /* the above and AVX-512 F, BW, DQ, VL, VNNI, VBMI */
    bool avx512bf16; /* the above and BF16 */
    bool amx;        /* avx512 and AMX-TILE, AMX-INT8, AMX-BF16 with 8 tiles of 16 rows of 64 bytes;
                      * Linux wants to be asked before their use: cpu_allow_tiles() */
};
struct x86_features x86_detect(void);

#endif
