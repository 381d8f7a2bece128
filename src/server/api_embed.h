/* api_embed.h - vectors as text. */
#ifndef SLM_SERVER_API_EMBED_H
#define SLM_SERVER_API_EMBED_H

#include "server/api.h"

/* values [n] as a JSON array, or as a string of base64 of little-endian float32, cut to the call's
 * dimensions; of length 1 afterwards where the call asks for it. */
void embedding_render(const struct api_call *call, const float *values, size_t n, struct buf *out);

#endif
