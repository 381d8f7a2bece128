/* keys.c - key files, constant-time lookup, and the allowances of each key.
 *
 * Allowances are buckets that hold a minute's worth and fill evenly. Tokens are known only afterwards,
 * so that bucket may go below zero; who owes waits until it is filled again. */
#include "server/keys.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { LINE_MOST_KEY = 1024, FILE_MOST = 4 << 20, KEY_BYTES_LEAST = 16 };

/* ------------------------------------------------------------------ file */

static bool hash_key(const char *key, size_t n, uint8_t out[32]) {
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, key, n, out) == 0;
}

static bool read_hex(const char *hex, uint8_t out[32]) {
    if (strlen(hex) != 64)
        return false;
    for (size_t i = 0; i < 32; i++) {
        unsigned byte;
        char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 };
        if (!isxdigit((unsigned char)pair[0]) || !isxdigit((unsigned char)pair[1]) ||
            sscanf(pair, "%2x", &byte) != 1)
            return false;
        out[i] = (uint8_t)byte;
    }
    return true;
}

static bool read_limit(const char *word, const char *name, uint64_t most, uint64_t *out) {
    size_t n = strlen(name);
    char *end;
    if (strncmp(word, name, n) != 0 || !isdigit((unsigned char)word[n]))
        return false;
    errno = 0;
    unsigned long long v = strtoull(word + n, &end, 10);
    *out = v;
    return errno == 0 && *end == '\0' && v >= 1 && v <= most;
}

static slm_err read_words(struct key *key, char *name, char *secret, char *save, size_t line,
                          slm_why *why) {
    if (name == NULL || secret == NULL)
        return fail(why, SLM_E_FORMAT, line, "line %zu: NAME KEY is wanted", line);
    if (strlen(name) > KEY_NAME_MOST)
        return fail(why, SLM_E_FORMAT, line, "line %zu: a name has at most %d bytes", line,
                    KEY_NAME_MOST);
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-@", *p))
            return fail(why, SLM_E_FORMAT, line, "line %zu: a name has letters, digits and . _ - @",
                        line);
    memcpy(key->name, name, strlen(name) + 1);
    if (strncmp(secret, "sha256:", 7) == 0) {
        if (!read_hex(secret + 7, key->hash))
            return fail(why, SLM_E_FORMAT, line, "line %zu: sha256: wants 64 hexadecimal digits",
                        line);
    } else if (strlen(secret) < KEY_BYTES_LEAST || strlen(secret) > KEY_BYTES_MOST) {
        return fail(why, SLM_E_FORMAT, line, "line %zu: a key has %d to %d bytes, this one %zu",
                    line, KEY_BYTES_LEAST, KEY_BYTES_MOST, strlen(secret));
    } else if (!hash_key(secret, strlen(secret), key->hash)) {
        return fail(why, SLM_E_NOMEM, line, "no hash of a key");
    }
    for (char *word; (word = strtok_r(NULL, " \t\r", &save)) != NULL;) {
        uint64_t v = 0;
        if (read_limit(word, "rpm=", 1000000, &v))
            key->rpm = (uint32_t)v;
        else if (read_limit(word, "concurrent=", 1000000, &v))
            key->concurrent = (uint32_t)v;
        else if (read_limit(word, "tpm=", UINT64_C(1) << 48, &v))
            key->tpm = v;
        else
            return fail(why, SLM_E_FORMAT, line,
                        "line %zu: limits are rpm=N, concurrent=N and tpm=N, from 1 on", line);
    }
    key->requests = key->rpm;
    key->tokens = (double)key->tpm;
    return SLM_OK;
}

static slm_err add_line(struct keys *k, char *text, size_t line, slm_why *why) {
    struct key key = { .running = 0 };
    char *save = NULL, *name = strtok_r(text, " \t\r", &save);
    if (name == NULL || name[0] == '#')
        return SLM_OK;
    char *secret = strtok_r(NULL, " \t\r", &save);
    TRY(read_words(&key, name, secret, save, line, why));
    for (size_t i = 0; i < k->n; i++)
        if (memcmp(k->items[i].hash, key.hash, sizeof key.hash) == 0 ||
            strcmp(k->items[i].name, key.name) == 0)
            return fail(why, SLM_E_FORMAT, line, "line %zu: the same name or key as '%s'", line,
                        k->items[i].name);
    if (k->n == KEYS_MOST)
        return fail(why, SLM_E_BUDGET, line, "more than %d keys", KEYS_MOST);
    struct key *more = mem_resize(NULL, k->items, k->n + 1, sizeof *more);
    if (more == NULL)
        return fail_nomem(why, "keys", (k->n + 1) * sizeof *more);
    k->items = more;
    k->items[k->n++] = key;
    return SLM_OK;
}

slm_err keys_parse(struct keys *k, const char *text, size_t n, slm_why *why) {
    char line[LINE_MOST_KEY];
    slm_err err = SLM_OK;
    memset(k, 0, sizeof *k);
    pthread_mutex_init(&k->lock, NULL);
    for (size_t at = 0, number = 1; at < n && err == SLM_OK; number++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        if (len >= sizeof line || memchr(text + at, '\0', len) != NULL) {
            err = fail(why, SLM_E_FORMAT, number, "line %zu is longer than %zu bytes or has a NUL",
                       number, sizeof line - 1);
            break;
        }
        memcpy(line, text + at, len);
        line[len] = '\0';
        err = add_line(k, line, number, why);
        at += len + 1;
    }
    explicit_bzero(line, sizeof line);
    if (err == SLM_OK && k->n == 0)
        err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "no key in it");
    if (err != SLM_OK)
        keys_free(k);
    return err;
}

slm_err keys_load(struct keys *k, const char *path, bool handed, slm_why *why) {
    struct stat s;
    memset(k, 0, sizeof *k);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s) != 0) {
        slm_err err = fail(why, SLM_E_IO, SLM_NO_OFFSET, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    slm_err err = SLM_OK;
    if (!S_ISREG(s.st_mode) || s.st_size > FILE_MOST)
        err = fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%s is no file of at most 4 MiB", path);
    else if (!handed && (s.st_mode & 077) != 0)
        err = fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                   "%s may be read by others (mode %o); chmod 600 makes it private", path,
                   (unsigned)s.st_mode & 07777);
    size_t n = (size_t)s.st_size, at = 0;
    char *text = err == SLM_OK ? malloc(n + 1) : NULL;
    for (ssize_t got = 1; text && at < n && got > 0; at += got > 0 ? (size_t)got : 0)
        got = read(fd, text + at, n - at);
    close(fd);
    if (err == SLM_OK && text == NULL)
        err = fail_nomem(why, path, n);
    if (err == SLM_OK) {
        err = keys_parse(k, text, at, why);
        if (err != SLM_OK)
            fail_prefix(why, err, "%s", path);
    }
    if (text)
        explicit_bzero(text, n);
    free(text);
    return err;
}

void keys_free(struct keys *k) {
    if (k->items)
        pthread_mutex_destroy(&k->lock);
    mem_free(NULL, k->items);
    k->items = NULL;
    k->n = 0;
}

/* ------------------------------------------------------------------ who is it */

struct key *keys_find(struct keys *k, const char *presented, size_t n) {
    uint8_t hash[32];
    size_t which = k->n;
    if (n > KEY_BYTES_MOST || !hash_key(presented, n, hash))
        return NULL;
    for (size_t i = 0; i < k->n; i++) {
        /* all bytes of all keys are looked at, whatever is found */
        unsigned differs = 0;
        for (size_t b = 0; b < sizeof hash; b++)
            differs |= (unsigned)(hash[b] ^ k->items[i].hash[b]);
        size_t equal = (size_t)0 - (size_t)((differs - 1) >> 31); /* all ones when nothing differs */
        which = (which & ~equal) | (i & equal);
    }
    return which < k->n ? &k->items[which] : NULL;
}

/* ------------------------------------------------------------------ allowances */

static void fill(struct key *key, uint64_t now_ns) {
    double minutes = key->filled_ns && now_ns > key->filled_ns
                         ? (double)(now_ns - key->filled_ns) / 60e9
                         : 0;
    key->filled_ns = now_ns;
    key->requests += minutes * key->rpm;
    if (key->requests > key->rpm)
        key->requests = key->rpm;
    key->tokens += minutes * (double)key->tpm;
    if (key->tokens > (double)key->tpm)
        key->tokens = (double)key->tpm;
}

enum key_verdict keys_enter(struct keys *k, struct key *key, uint64_t now_ns, uint32_t *retry_ms) {
    enum key_verdict verdict = KEY_TAKEN;
    *retry_ms = 0;
    if (key == NULL)
        return verdict;
    pthread_mutex_lock(&k->lock);
    fill(key, now_ns);
    if (key->concurrent && key->running >= key->concurrent) {
        verdict = KEY_CONCURRENT;
        *retry_ms = 1000;
    } else if (key->rpm && key->requests < 1) {
        verdict = KEY_REQUESTS;
        *retry_ms = (uint32_t)((1 - key->requests) * 60000.0 / key->rpm) + 1;
    } else if (key->tpm && key->tokens <= 0) {
        double wait = (1 - key->tokens) * 60000.0 / (double)key->tpm;
        verdict = KEY_TOKENS;
        *retry_ms = wait < 3600e3 ? (uint32_t)wait + 1 : 3600000;
    } else {
        key->running++;
        key->requests -= 1;
    }
    pthread_mutex_unlock(&k->lock);
    return verdict;
}

void keys_leave(struct keys *k, struct key *key, uint64_t tokens, uint64_t now_ns) {
    if (key == NULL)
        return;
    pthread_mutex_lock(&k->lock);
    fill(key, now_ns);
    key->running--;
    key->tokens -= (double)tokens;
    pthread_mutex_unlock(&k->lock);
}
