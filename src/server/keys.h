/* keys.h - who may ask, and how much.
 *
 * A key file has a line for each key: NAME KEY [rpm=N] [concurrent=N] [tpm=N], blank lines and those that
 * begin with '#' aside. KEY is the key itself (16 to 512 printable characters) or "sha256:" and the 64
 * hexadecimal digits of its hash. Only hashes are kept; a key that is presented is hashed and compared
 * with every one in a time that does not depend on the bytes. */
#ifndef SLM_SERVER_KEYS_H
#define SLM_SERVER_KEYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { KEY_NAME_MOST = 64, KEYS_MOST = 4096, KEY_BYTES_MOST = 512 };
struct key {
    char name[KEY_NAME_MOST + 1]; /* for logs and metrics */
    uint8_t hash[32];             /* SHA-256 */
    uint32_t rpm, concurrent;     /* requests a minute, at once; 0: no limit */
    uint64_t tpm;                 /* tokens a minute, read and written; 0: no limit */
    /* under the keys' lock */
    uint32_t running;
    double requests, tokens; /* what is left of the minute's allowance; tokens may be owed */
    uint64_t filled_ns;      /* when those were computed */
};
struct keys {
    struct key *items; /* [n]; n 0: everybody may ask */
    size_t n;
    pthread_mutex_t lock;
};
/* text [n] of a key file. E_FORMAT with the line; E_NOMEM. */
slm_err keys_parse(struct keys *k, const char *text, size_t n, slm_why *why);
/* Reads it from a file that only its owner may read (else E_ARG), unless `handed` (a credential that
 * the system made for this process). */
slm_err keys_load(struct keys *k, const char *path, bool handed, slm_why *why);
void keys_free(struct keys *k);
/* The key that was presented, NULL: none of them. Looks at all in any case. */
struct key *keys_find(struct keys *k, const char *presented, size_t n);

enum key_verdict { KEY_TAKEN, KEY_REQUESTS, KEY_CONCURRENT, KEY_TOKENS };
/* Takes one request off the allowances (given back by keys_leave), or says which is used up and in how
 * many ms it will do. key NULL: taken. now in ns of a monotonic clock. */
enum key_verdict keys_enter(struct keys *k, struct key *key, uint64_t now_ns, uint32_t *retry_ms);
void keys_leave(struct keys *k, struct key *key, uint64_t tokens, uint64_t now_ns);

#endif
