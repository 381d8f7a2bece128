/* gate.c - Host, Origin, content type, bearer tokens: see gate.h. */
#include "server/gate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { HOST_MOST = 253 };

/* Takes ":port" and the brackets of an IPv6 address off; false when what is left is no host. */
static bool bare_host(const char *host, char out[HOST_MOST + 1], bool *is_v6) {
    size_t n = strlen(host), end;
    *is_v6 = host[0] == '[';
    if (*is_v6) {
        const char *close = strchr(host, ']');
        if (close == NULL || (close[1] != '\0' && close[1] != ':'))
            return false;
        host++;
        end = (size_t)(close - host);
        n = strlen(close + 1);
        for (size_t i = 1; i < n; i++)
            if (!isdigit((unsigned char)close[1 + i]))
                return false;
    } else {
        const char *colon = strchr(host, ':');
        end = colon ? (size_t)(colon - host) : n;
        for (const char *p = colon ? colon + 1 : ""; *p; p++)
            if (!isdigit((unsigned char)*p))
                return false;
    }
    if (end == 0 || end > HOST_MOST)
        return false;
    memcpy(out, host, end);
    out[end] = '\0';
    if (!*is_v6 && out[end - 1] == '.') /* the root's dot */
        out[end - 1] = '\0';
    return out[0] != '\0';
}

static bool is_address(const char *host, bool v6) {
    unsigned char bytes[16];
    return inet_pton(v6 ? AF_INET6 : AF_INET, host, bytes) == 1;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n > m && strcasecmp(s + n - m, tail) == 0;
}

bool gate_host(const struct gate *g, const char *host) {
    char name[HOST_MOST + 1];
    bool v6;
    if (host == NULL || !bare_host(host, name, &v6))
        return false;
    if (is_address(name, v6))
        return true;
    if (v6)
        return false;
    if (strcasecmp(name, "localhost") == 0 || ends_with(name, ".localhost"))
        return true;
    if (g->self && strcasecmp(name, g->self) == 0)
        return true;
    for (size_t i = 0; i < g->n_hosts; i++)
        if (strcasecmp(g->hosts[i], name) == 0)
            return true;
    return false;
}

enum origin_verdict gate_origin(const struct gate *g, const char *origin, const char *host) {
    if (origin == NULL)
        return ORIGIN_NONE;
    for (size_t i = 0; i < g->n_origins; i++)
        if (strcmp(g->origins[i], "*") == 0 || strcasecmp(g->origins[i], origin) == 0)
            return ORIGIN_LISTED;
    const char *rest = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : NULL;
    /* the scheme is not compared: a proxy in front may have taken TLS off */
    if (rest != NULL && host != NULL && strcasecmp(rest, host) == 0)
        return ORIGIN_SAME;
    return ORIGIN_FOREIGN;
}

bool gate_json_type(const char *type) {
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    if (type == NULL || strncasecmp(type, json, n) != 0)
        return false;
    while (type[n] == ' ' || type[n] == '\t')
        n++;
    return type[n] == '\0' || type[n] == ';';
}

const char *gate_bearer(const char *authorization) {
    if (authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    const char *token = authorization + 7;
    while (*token == ' ')
        token++;
    return token;
}

bool gate_length(const char *text, uint64_t *out) {
    uint64_t v = 0;
    if (text == NULL || text[0] == '\0')
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text) || v > (UINT64_MAX / 2 - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*text - '0');
    }
    *out = v;
    return true;
}

bool gate_is_loopback(const char *host) {
    unsigned char bytes[16];
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, bytes) == 1)
        return bytes[0] == 127;
    static const unsigned char one[16] = { [15] = 1 };
    return inet_pton(AF_INET6, host, bytes) == 1 && memcmp(bytes, one, 16) == 0;
}
