/* hub_fetch.c - one file from the hub into the cache: resumed, checked, linked.
 *
 * The bytes go to blobs/<hash>.incomplete and are hashed as they come; the file gets its name only
 * when size and hash are right, so a name in blobs/ means a whole file. What an interrupted run left
 * is hashed first and continued with a Range request. A server is not believed: Content-Range must
 * say what was asked for, an ETag must stay the same between the parts of one run, an answer without
 * a range starts over, and when the hash of a resumed file is wrong the file is fetched once more
 * from the beginning before that counts as an error.
 *
 * Hash: SHA-256 of the bytes, or for small files git's SHA-1 of "blob <size>", a zero byte and the
 * bytes. Written data is synced every SYNC_BYTES and at the end. */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/hub.h"

enum { RESTARTS_MOST = 3 };
#define SYNC_BYTES (UINT64_C(64) << 20)
#define PROGRESS_BYTES (UINT64_C(1) << 20) /* this much progress makes the tries count anew */

struct fetch {
    struct hub_transfer *t;
    const struct hub_file *f;
    char partial[HUB_HASH_MOST + 16];
    int lock, fd;
    gnutls_hash_hd_t hash;
    uint64_t have, synced; /* bytes in the file, hashed; bytes known to be on disk */
    uint64_t got;          /* bytes that came over the network */
    uint64_t resumed;      /* bytes of an earlier run that `have` began with */
    uint64_t first;        /* the same, never taken back: where the progress line began */
    unsigned restarts;
    char etag[160]; /* of the answer that the file's bytes come from; "" unknown */
    bool restart;   /* the answer cannot be added to what is there */
    slm_err err;    /* of a callback */
    slm_why *why;
};

static slm_err fail_io(slm_why *why, const char *what, const char *name) {
    int reason = errno;
    return fail(why, SLM_E_IO, SLM_NO_OFFSET, "cannot %s %s: %s", what, name, strerror(reason));
}

/* ------------------------------------------------------------------ hash */

static slm_err hash_start(struct fetch *x) {
    char head[64];
    if (x->hash)
        gnutls_hash_deinit(x->hash, NULL);
    x->hash = NULL;
    if (gnutls_hash_init(&x->hash, x->f->sha256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA1) != 0)
        return fail(x->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "this machine's GnuTLS has no %s",
                    x->f->sha256 ? "SHA-256" : "SHA-1");
    if (!x->f->sha256) {
        int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)x->f->size);
        gnutls_hash(x->hash, head, (size_t)n + 1); /* with its zero byte */
    }
    return SLM_OK;
}

static void hash_text(struct fetch *x, char text[HUB_HASH_MOST]) {
    unsigned char digest[32];
    size_t n = x->f->sha256 ? 32 : 20;
    gnutls_hash_deinit(x->hash, digest);
    x->hash = NULL;
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

/* ------------------------------------------------------------------ the partial file */

static slm_err start_over(struct fetch *x) {
    if (ftruncate(x->fd, 0) != 0 || lseek(x->fd, 0, SEEK_SET) != 0)
        return fail_io(x->why, "empty", x->partial);
    x->have = x->synced = x->resumed = 0;
    x->etag[0] = 0;
    return hash_start(x);
}

/* Hashes what an earlier run left, so that the hash goes on with the next byte. */
static slm_err take_up(struct fetch *x) {
    char *block = keep(malloc(1 << 20));
    slm_err err = hash_start(x);
    struct progress p;
    progress_start(&p, &x->t->hub->c->term, x->t->hub->c->quiet, "check what is there", "B");
    while (err == SLM_OK) {
        ssize_t n = read(x->fd, block, 1 << 20);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            err = fail_io(x->why, "read", x->partial);
        if (n > 0) {
            gnutls_hash(x->hash, block, (size_t)n);
            x->have += (uint64_t)n;
            progress_step(&p, x->have, x->f->size);
        }
        if (interrupted())
            err = fail(x->why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
    }
    progress_end(&p);
    free(block);
    if (err == SLM_OK && x->have > x->f->size)
        return start_over(x);
    x->resumed = x->synced = x->first = x->have;
    return err;
}

static slm_err open_partial(struct fetch *x) {
    struct stat s;
    snprintf(x->partial, sizeof x->partial, "%s.incomplete", x->f->hash);
    x->fd = openat(x->t->cache->blobs, x->partial, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (x->fd < 0 || fstat(x->fd, &s) != 0)
        return fail_io(x->why, "write", x->partial);
    if (!S_ISREG(s.st_mode))
        return fail(x->why, SLM_E_IO, SLM_NO_OFFSET, "%s in the cache is no file", x->partial);
    return take_up(x);
}

static slm_err write_piece(struct fetch *x, const char *data, size_t n) {
    while (n) {
        ssize_t k = write(x->fd, data, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            int reason = k < 0 ? errno : ENOSPC;
            bool full = reason == ENOSPC || reason == EDQUOT || reason == EFBIG;
            char a[32], b[32];
            snprintf(x->t->hub->ways, sizeof x->t->hub->ways,
                     "%sthe same command then goes on from there\n"
                     "HF_HUB_CACHE=FOLDER    keeps the models on another disk",
                     full ? "make room; " : "");
            return fail(x->why, SLM_E_IO, SLM_NO_OFFSET,
                        "%s after %s of %s of %s (%s); what has come is kept",
                        full ? "the disk is full" : "writing failed",
                        format_bytes(x->have, a, sizeof a), format_bytes(x->f->size, b, sizeof b),
                        x->f->path, strerror(reason));
        }
        gnutls_hash(x->hash, data, (size_t)k);
        x->have += (uint64_t)k;
        x->got += (uint64_t)k;
        data += k;
        n -= (size_t)k;
    }
    if (x->have - x->synced >= SYNC_BYTES) {
        fdatasync(x->fd); /* a failure here shows again at the end, where it is reported */
        x->synced = x->have;
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ one answer */

static bool refuse(struct fetch *x, slm_err err) {
    x->err = err;
    return false;
}

/* The answer cannot be what follows the bytes that are there. */
static bool cannot_continue(struct fetch *x, const char *reason) {
    hub_note(x->t->hub, "%s: %s; starting over", x->f->path, reason);
    x->restart = true;
    return false;
}

/* *expected: bytes that this part has. */
static bool check_part(struct fetch *x, const struct hub_reply *r, uint64_t *expected) {
    uint64_t first, last, total;
    if (x->have == 0)
        return refuse(x, fail(x->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                              "the server sends a part of %s that was not asked for (%s)",
                              x->f->path, r->range));
    if (!hub_parse_range(r->range, &first, &last, &total) || first != x->have ||
        (total != UINT64_MAX && total != x->f->size) || last >= x->f->size)
        return cannot_continue(x, "the server sends another part than was asked for");
    if (x->etag[0] && r->etag[0] && strcmp(x->etag, r->etag) != 0)
        return cannot_continue(x, "the file changed on the server");
    *expected = last + 1 - first; /* may be less than all that is left */
    return true;
}

static bool on_begin(void *user, const struct hub_reply *r) {
    struct fetch *x = user;
    if (r->encoding[0] && strcasecmp(r->encoding, "identity") != 0)
        return refuse(
            x, fail(x->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "the server sends %s with content-encoding '%s', which was not asked for",
                    x->f->path, r->encoding));
    if (r->linked_size >= 0 && (uint64_t)r->linked_size != x->f->size)
        return refuse(x,
                      fail(x->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                           "%s has %llu bytes in the hub's list and %lld in its answer", x->f->path,
                           (unsigned long long)x->f->size, (long long)r->linked_size));
    uint64_t expected = x->f->size;
    if (r->status == 206) {
        if (!check_part(x, r, &expected))
            return false;
    } else if (x->have > 0) {
        hub_note(x->t->hub, "%s: the server does not go on, it starts over", x->f->path);
        slm_err err = ++x->restarts > RESTARTS_MOST ? fail(x->why, SLM_E_NET, SLM_NO_OFFSET,
                                                           "the server starts over again and again")
                                                    : start_over(x);
        if (err != SLM_OK)
            return refuse(x, err);
    }
    if (r->length >= 0 && (uint64_t)r->length != expected)
        return refuse(x,
                      fail(x->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                           "of %s %llu bytes have to come by the hub's list, the server has %lld",
                           x->f->path, (unsigned long long)expected, (long long)r->length));
    snprintf(x->etag, sizeof x->etag, "%s", r->etag);
    return true;
}

static bool on_data(void *user, const void *data, size_t n) {
    struct fetch *x = user;
    if (n > x->f->size - x->have)
        return refuse(x, fail(x->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                              "the server sends more of %s than the %llu bytes in the hub's list",
                              x->f->path, (unsigned long long)x->f->size));
    slm_err err = write_piece(x, data, n);
    if (x->t->hub->line)
        progress_step(x->t->hub->line, x->t->before + (x->have > x->first ? x->have - x->first : 0),
                      x->t->total);
    return err == SLM_OK || refuse(x, err);
}

/* ------------------------------------------------------------------ all of it */

static char *file_url(const struct hub_transfer *t, const struct hub_file *f) {
    struct buf b;
    buf_init(&b, NULL, 8192);
    buf_printf(&b, "%s/%s/resolve/%s/", t->hub->endpoint, t->repo, t->cache->commit);
    hub_escape(&b, f->path, true);
    return keep(buf_take(&b));
}

/* Asks until all bytes are there. */
static slm_err fetch_bytes(struct fetch *x, const char *url) {
    unsigned failed = 0;
    struct hub *h = x->t->hub;
    for (bool empty = x->f->size == 0; x->have < x->f->size || empty; empty = false) {
        /* only a strong ETag may stand in If-Range */
        struct hub_call call = { .url = url,
                                 .from = x->have,
                                 .if_range = x->etag[0] == '"' ? x->etag : NULL,
                                 .begin = on_begin,
                                 .data = on_data,
                                 .user = x };
        uint64_t had = x->have;
        x->restart = false;
        slm_err err = hub_request(h, &call, x->why);
        if (err == SLM_OK && call.stopped && !x->restart)
            return x->err;
        if (x->restart) {
            if (++x->restarts > RESTARTS_MOST)
                return fail(x->why, SLM_E_NET, SLM_NO_OFFSET,
                            "the server sent wrong parts of %s %d times", x->f->path, x->restarts);
            TRY(start_over(x));
            continue;
        }
        if (x->have >= had + PROGRESS_BYTES)
            failed = 0;
        bool whole = err == SLM_OK && (call.reply.status == 200 || call.reply.status == 206);
        if (whole && x->have == x->f->size)
            return SLM_OK;
        if (whole) /* came to its end too early */
            err = fail(x->why, SLM_E_NET, SLM_NO_OFFSET,
                       "the server stopped after %llu of %llu bytes of %s",
                       (unsigned long long)x->have, (unsigned long long)x->f->size, x->f->path);
        if (err == SLM_OK && call.reply.status == 416 && x->have > 0 &&
            ++x->restarts <= RESTARTS_MOST) {
            TRY(start_over(x));
            continue;
        }
        if (hub_again(h, &failed, err, &call.reply, x->why))
            continue;
        if (interrupted())
            return fail(x->why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
        if (err == SLM_E_NET)
            snprintf(h->ways, sizeof h->ways, "the same command later goes on from there");
        return err != SLM_OK ? err : hub_refusal(h, x->t->repo, x->f->path, &call.reply, x->why);
    }
    return SLM_OK;
}

/* Size and hash; a resumed file with a wrong hash is fetched once more from its beginning. */
static slm_err fetch_checked(struct fetch *x, const char *url) {
    char hash[HUB_HASH_MOST];
    for (;;) {
        bool resumed = x->resumed > 0;
        TRY(fetch_bytes(x, url));
        hash_text(x, hash);
        if (strcmp(hash, x->f->hash) == 0)
            return SLM_OK;
        if (!resumed || x->resumed == 0)
            break;
        hub_note(x->t->hub,
                 "%s: the hash is wrong, what an earlier run left cannot be used; starting over",
                 x->f->path);
        TRY(start_over(x));
    }
    unlinkat(x->t->cache->blobs, x->partial, 0);
    return fail(x->why, SLM_E_CHECKSUM, SLM_NO_OFFSET,
                "%s has the wrong hash: %s is in the hub's list, %s came; it was not kept",
                x->f->path, x->f->hash, hash);
}

static slm_err finish(struct fetch *x) {
    if (fsync(x->fd) != 0)
        return fail_io(x->why, "write", x->partial);
    if (renameat(x->t->cache->blobs, x->partial, x->t->cache->blobs, x->f->hash) != 0)
        return fail_io(x->why, "rename", x->partial);
    fsync(x->t->cache->blobs);
    return SLM_OK;
}

/* One program at a time fetches a blob; others wait here and then find it. */
static slm_err take_lock(struct fetch *x) {
    char name[HUB_HASH_MOST + 8];
    snprintf(name, sizeof name, "%s.lock", x->f->hash);
    x->lock = openat(x->t->cache->locks, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (x->lock < 0)
        return fail_io(x->why, "make the lock", name);
    for (bool said = false; flock(x->lock, LOCK_EX | LOCK_NB) != 0; said = true) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail_io(x->why, "lock", name);
        if (!said)
            hub_note(x->t->hub, "%s is being fetched by another program; waiting for it",
                     x->f->path);
        if (interrupted())
            return fail(x->why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
        nanosleep(&(struct timespec){ .tv_nsec = 100 * 1000 * 1000 }, NULL);
    }
    return SLM_OK;
}

slm_err hub_fetch(struct hub_transfer *t, const struct hub_file *f, enum hub_outcome *outcome,
                  uint64_t *got, slm_why *why) {
    struct fetch x = { .t = t, .f = f, .lock = -1, .fd = -1, .why = why };
    char *url = file_url(t, f);
    slm_err err;
    *outcome = HUB_PRESENT;
    TRY_OUT(take_lock(&x));
    if (!hub_cache_has_blob(t->cache, f)) {
        TRY_OUT(open_partial(&x));
        *outcome = x.resumed > 0 ? HUB_RESUMED : HUB_FETCHED;
        TRY_OUT(fetch_checked(&x, url));
        TRY_OUT(finish(&x));
    }
    err = hub_cache_link(t->cache, f, why);
out:
    *got = x.got;
    if (x.hash)
        gnutls_hash_deinit(x.hash, NULL);
    if (x.fd >= 0)
        close(x.fd);
    if (x.lock >= 0)
        close(x.lock); /* gives the lock back; the file stays, as others may be waiting on it */
    free(url);
    return err;
}
