/* mirror.h - what MCP 2026-07-28 wants of a request in HTTP headers as well. */
#ifndef SLM_AGENT_MIRROR_H
#define SLM_AGENT_MIRROR_H

#include <jansson.h>

#include "base/mem.h"

struct mirror {
    char **lines; /* [n] "Name: value" */
    size_t n;
};
/* "Name: value", the value in base64 where it is not plain visible ASCII. Returns owned. */
char *mirror_line(const char *prefix, const char *name, const char *value, size_t n);
/* Headers for the parameters that a tool's input schema marks with "x-mcp-header", with their values in
 * the arguments (NULL: only the schema is checked). E_FORMAT naming a mark that is against the rules; such
 * a tool must not be used over HTTP. lines are added to out. */
slm_err mirror_arguments(const json_t *schema, const json_t *arguments, struct mirror *out,
                         slm_why *why);
void mirror_free(struct mirror *m);

#endif
