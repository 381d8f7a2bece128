/* api_inform.h - what api_inform leaves to api_models.c. */
#ifndef SLM_SERVER_API_INFORM_H
#define SLM_SERVER_API_INFORM_H

#include "server/api.h"

/* API_MODELS, MODEL, SHOW, RUNNING, PROPS, SLOTS, in the words of the route's family. */
bool inform_models(const struct api_call *call, const struct api_world *world,
                   const struct api_model *model, struct buf *out, struct api_error *e);

#endif
