/* hub.h - the models' hub: what it offers (hub.c, hub_list.c), the cache on disk that other programs
 * share (hub_cache.c), and one file from there to here (hub_fetch.c).
 *
 * Everything that comes from the network is untrusted: names, sizes and hashes are checked when the
 * list is read, and nothing is used under its own name before its hash has been seen to be right.
 *
 * Functions return slm_err; E_NET is what may go better next time, every other code is final. The
 * ways out of a failure are in hub.ways, lines as report() takes them. */
#ifndef SLM_CLI_HUB_H
#define SLM_CLI_HUB_H

#include "cli/cli.h"

/* Where models come from unless HF_ENDPOINT says otherwise. */
#define HUB_ENDPOINT "https://huggingface.co"

enum {
    HUB_HASH_MOST = 65,   /* 64 hex digits and a zero */
    HUB_COMMIT_MOST = 41, /* 40 hex digits and a zero */
    HUB_FILES_MOST = 20000,
    HUB_PATH_MOST = 1024,
    HUB_ORIGIN_MOST = 300,
    HUB_TEXT_MOST = 16 << 20, /* of one JSON answer */
    HUB_TRIES = 5             /* in a row without progress */
};

/* ---- hub_list.c: names, and the answers of the hub's API ---- */
struct hub_file {
    char *path; /* relative, checked: no way out of the folder, no control characters */
    uint64_t size;
    char hash[HUB_HASH_MOST]; /* lower case; the name of the blob */
    bool sha256;              /* else the SHA-1 that git gives a blob */
};
struct hub_listing {
    char commit[HUB_COMMIT_MOST];
    char licence[128];      /* as the repository says it, made printable; "" unknown */
    bool gated;             /* terms have to be accepted */
    struct hub_file *files; /* [n] */
    size_t n, room;
};
/* "org/name"; a branch, tag or commit; a path inside a repository. */
bool hub_repo_ok(const char *repo);
bool hub_revision_ok(const char *revision);
bool hub_path_ok(const char *path);
bool hub_hex_ok(const char *s, size_t digits);
/* api/models/{repo}/revision/{rev}: commit, licence, gated. */
slm_err hub_parse_info(const char *text, size_t n, struct hub_listing *out, slm_why *why);
/* One page of api/models/{repo}/tree/{rev}?recursive=1: its files are appended. */
slm_err hub_parse_tree(const char *text, size_t n, struct hub_listing *out, slm_why *why);
/* The address with rel="next" in a Link header; false if there is none. */
bool hub_next_link(const char *header, char *url, size_t size);
/* "bytes 5-9/10"; total is UINT64_MAX for '*'. */
bool hub_parse_range(const char *text, uint64_t *first, uint64_t *last, uint64_t *total);
void hub_listing_free(struct hub_listing *l);
/* Control characters and bytes that are no UTF-8 become '?', in place. */
void hub_clean(char *text);

/* ---- hub.c: requests ---- */
struct hub {
    const struct cli *c;
    void *curl;
    char *endpoint;               /* without a slash at the end */
    char origin[HUB_ORIGIN_MOST]; /* of the endpoint: scheme, host, port */
    const char *token;            /* HF_TOKEN or NULL; borrowed */
    struct progress *line;        /* shown while fetching; may be NULL */
    unsigned stall_s,
        wait_ms; /* silence that counts as a failure; first pause before trying again */
    char ways[1024];
};
/* What can be asked of the environment. False for an endpoint or a token that must not be used. */
slm_err hub_open(struct hub *h, const struct cli *c, slm_why *why);
void hub_close(struct hub *h);
bool hub_offline(void); /* HF_HUB_OFFLINE */
/* note(), with the progress line out of the way. */
void hub_note(const struct hub *h, const char *format, ...) ATTR_PRINTF(2, 3);

struct hub_reply {
    long status;
    int64_t length;        /* Content-Length, -1 unknown */
    int64_t retry_after_s; /* -1 unknown */
    int64_t linked_size;   /* of the file, as the hub says while it redirects; -1 unknown */
    char etag[160], linked_etag[160], range[96], encoding[40], next[2048], error_code[48],
        error_text[200];
};
struct hub_call {
    const char *url;
    uint64_t from;        /* > 0: only what follows from this byte */
    const char *if_range; /* "" or NULL: none */
    /* Before the first byte of a body (status 200 or 206), and for each piece; false ends the call. */
    bool (*begin)(void *user, const struct hub_reply *reply);
    bool (*data)(void *user, const void *data, size_t n);
    void *user;
    struct hub_reply reply;
    bool stopped; /* begin or data said so */
};
/* One GET with its redirects. OK for any answer that came whole, and when a callback stopped it. */
slm_err hub_request(struct hub *h, struct hub_call *call, slm_why *why);
/* Whether to try again after `err` and `reply`, having waited: counts in *failed. */
bool hub_again(struct hub *h, unsigned *failed, slm_err err, const struct hub_reply *reply,
               const slm_why *why);
/* An answer that is not what was asked for, explained. */
slm_err hub_refusal(struct hub *h, const char *repo, const char *what,
                    const struct hub_reply *reply, slm_why *why);
/* Commit and files of a revision. */
slm_err hub_list(struct hub *h, const char *repo, const char *revision, struct hub_listing *out,
                 slm_why *why);
/* Appends text with everything but unreserved characters (and '/' if keep_slash) as %XX. */
void hub_escape(struct buf *b, const char *text, bool keep_slash);
/* Scheme, host and port of an address as text; false if it is none, or holds a name or password.
 * *safe: encrypted, or to this machine itself. */
bool hub_origin(const char *url, char origin[HUB_ORIGIN_MOST], bool *https, bool *safe);

/* ---- hub_cache.c: models--org--name/{refs,blobs,snapshots} ---- */
struct hub_cache {
    char *root;             /* HF_HUB_CACHE, HF_HOME/hub, ... */
    char *repo_dir;         /* root/models--org--name */
    int repo, blobs, locks; /* folders; -1: not there */
    char commit[HUB_COMMIT_MOST];
};
/* Returns owned. */
char *hub_cache_root(void);
/* make: creates what is missing (else nothing on disk changes, and folders may be -1). */
slm_err hub_cache_open(struct hub_cache *k, const char *repo, const char *commit, bool make,
                       slm_why *why);
void hub_cache_close(struct hub_cache *k);
/* Commit that a revision meant when it was last fetched; false if never. */
bool hub_cache_ref(const struct hub_cache *k, const char *revision, char commit[HUB_COMMIT_MOST]);
slm_err hub_cache_set_ref(struct hub_cache *k, const char *revision, slm_why *why);
/* The blob is there in its size. */
bool hub_cache_has_blob(const struct hub_cache *k, const struct hub_file *f);
/* Bytes of it that an earlier, unfinished run left. */
uint64_t hub_cache_partial(const struct hub_cache *k, const struct hub_file *f);
/* The file's name in the snapshot leads to its blob; made if `make`. */
slm_err hub_cache_link(struct hub_cache *k, const struct hub_file *f, slm_why *why);
/* Path of a file in the snapshot, or of the snapshot for NULL. Returns owned. */
char *hub_cache_path(const struct hub_cache *k, const char *file);
/* Bytes free for us on the disk of the cache; UINT64_MAX unknown. */
uint64_t hub_cache_free_bytes(const struct hub_cache *k);

/* ---- hub_fetch.c ---- */
struct hub_transfer {
    struct hub *hub;
    struct hub_cache *cache;
    const char *repo;
    uint64_t before, total; /* bytes to fetch, for the progress line: of the files before; of all */
};
enum hub_outcome { HUB_PRESENT, HUB_FETCHED, HUB_RESUMED };
/* Brings one file into the cache: waits for another program that is at it, goes on where an earlier
 * run stopped, checks size and hash, links it. *got: bytes that came over the network. */
slm_err hub_fetch(struct hub_transfer *t, const struct hub_file *f, enum hub_outcome *outcome,
                  uint64_t *got, slm_why *why);

#endif
