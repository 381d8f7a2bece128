/* deploy.h - the parts of `slm deploy`: each prints one file on standard output. */
#ifndef SLM_CLI_DEPLOY_H
#define SLM_CLI_DEPLOY_H

#include "cli/cli.h"

/* A configuration of HAProxy in front of --servers. */
int deploy_haproxy(struct cli *c);

/* Whether a path or name may stand in a configuration file between quotes: printable ASCII or UTF-8, and
 * none of the quote, backslash and control characters. */
bool deploy_plain(const char *text);

#endif
