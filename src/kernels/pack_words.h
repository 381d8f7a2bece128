/* pack_words.h - the quick way to pack one panel; matrix_pack in panel.c chooses. */
#ifndef SLM_KERNELS_PACK_WORDS_H
#define SLM_KERNELS_PACK_WORDS_H

#include "kernels/kernels.h"

/* Packs rows[0..n_rows-1] (n_rows from 1 to 16; each one row of `from`) into panel [panel_bytes],
 * which may hold anything before: every byte is written, those of rows that are not there with 0. */
void pack_words(const struct matrix *from, const uint8_t *const *rows, unsigned n_rows,
                size_t panel_bytes, uint8_t *panel);

#endif
