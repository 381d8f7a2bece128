/* hub_server.c - a models' hub of the tests' own, with every fault that `slm pull` has to survive.
 *
 * usage: hub_server FOLDER LOG
 * Serves the files of FOLDER as every repository org/MODE; MODE names the fault (see `modes` below).
 * Two ports on 127.0.0.1: the hub itself and a content server that large files are redirected to.
 * Prints "HUB_PORT CDN_PORT" when both listen. Each request is one line in LOG:
 *   hub|cdn METHOD URL auth=TOKEN|- range=...|- ifrange=...|- encoding=...|-
 * Files above LARGE bytes are listed with "lfs" and SHA-256, others with git's SHA-1. */
#include <dirent.h>
#include <gnutls/crypto.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
enum { LARGE = 1000000, FILES_MOST = 64, MODES_MOST = 128 };

struct file {
    char name[128];
    unsigned char *data;
    size_t size;
    char hash[65];
    bool large;
};
static struct file files[FILES_MOST];
static size_t n_files;
static unsigned hub_port, cdn_port;
static FILE *log_file;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Requests that each mode has seen for its large file, and for its list. */
static struct count {
    char mode[64];
    unsigned file, list;
} counts[MODES_MOST];

static struct count *count_of(const char *mode) {
    for (size_t i = 0; i < MODES_MOST; i++) {
        if (!counts[i].mode[0])
            snprintf(counts[i].mode, sizeof counts[i].mode, "%s", mode);
        if (strcmp(counts[i].mode, mode) == 0)
            return &counts[i];
    }
    return &counts[0];
}

/* ------------------------------------------------------------------ files */

static void hash_file(struct file *f) {
    unsigned char digest[32];
    gnutls_hash_hd_t h;
    char head[64];
    int n = snprintf(head, sizeof head, "blob %zu", f->size);
    gnutls_hash_init(&h, f->large ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA1);
    if (!f->large)
        gnutls_hash(h, head, (size_t)n + 1);
    gnutls_hash(h, f->data, f->size);
    gnutls_hash_deinit(h, digest);
    for (size_t i = 0; i < (f->large ? 32u : 20u); i++)
        snprintf(f->hash + 2 * i, 3, "%02x", digest[i]);
}

static void load_folder(const char *folder) {
    DIR *d = opendir(folder);
    for (struct dirent *e; d && n_files < FILES_MOST && (e = readdir(d)) != NULL;) {
        char path[1024];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || stat(path, &s) != 0 || !S_ISREG(s.st_mode))
            continue;
        struct file *f = &files[n_files++];
        snprintf(f->name, sizeof f->name, "%.100s", e->d_name);
        f->size = (size_t)s.st_size;
        f->data = malloc(f->size + 1);
        f->large = f->size > LARGE;
        FILE *in = fopen(path, "rb");
        if (!in || !f->data || fread(f->data, 1, f->size, in) != f->size)
            exit(1);
        fclose(in);
        hash_file(f);
    }
    if (d)
        closedir(d);
}

static struct file *find_file(const char *name) {
    for (size_t i = 0; i < n_files; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

/* ------------------------------------------------------------------ answers */

struct body {
    const unsigned char *data;
    size_t size, cut; /* bytes; after `cut` the connection is dropped */
    unsigned piece, pause_ms;
    bool chunked_end;
};

static ssize_t read_body(void *user, uint64_t pos, char *out, size_t most) {
    struct body *b = user;
    if (pos >= b->cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (pos >= b->size)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (b->pause_ms)
        nanosleep(&(struct timespec){ .tv_sec = b->pause_ms / 1000,
                                      .tv_nsec = (long)(b->pause_ms % 1000) * 1000000 },
                  NULL);
    size_t n = b->size - (size_t)pos;
    n = n < most ? n : most;
    n = n < b->cut - pos ? n : b->cut - (size_t)pos;
    if (b->piece && n > b->piece)
        n = b->piece;
    memcpy(out, b->data + pos, n);
    return (ssize_t)n;
}

static void free_body(void *user) {
    free(user);
}

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *text,
                                 const char *header, const char *value) {
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                             MHD_RESPMEM_MUST_COPY);
    if (header)
        MHD_add_response_header(r, header, value);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *code,
                              const char *message) {
    struct MHD_Response *r =
        MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    if (code)
        MHD_add_response_header(r, "X-Error-Code", code);
    if (message)
        MHD_add_response_header(r, "X-Error-Message", message);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static bool is(const char *mode, const char *name) {
    return strcmp(mode, name) == 0;
}

/* ------------------------------------------------------------------ the API */

static enum MHD_Result send_info(struct MHD_Connection *c, const char *mode) {
    if (is(mode, "bad-json"))
        return send_text(c, 200, "{\"sha\": \"", NULL, NULL);
    if (is(mode, "bad-commit"))
        return send_text(c, 200, "{\"sha\":\"../../../../etc\"}", NULL, NULL);
    if (is(mode, "no-commit"))
        return send_text(c, 200, "[1,2]", NULL, NULL);
    return send_text(c, 200,
                     "{\"id\":\"x\",\"sha\":\"" COMMIT
                     "\",\"gated\":false,\"cardData\":{\"license\":\"apache-2.0\"}}",
                     NULL, NULL);
}

static const char *evil_list(const char *mode) {
    static const struct {
        const char *mode, *list;
    } lists[] = {
#define OID "\"oid\":\"0123456789abcdef0123456789abcdef01234567\""
        { "evil-dots", "[{\"type\":\"file\",\"path\":\"../../evil\",\"size\":1," OID "}]" },
        { "evil-inner", "[{\"type\":\"file\",\"path\":\"a/../../b\",\"size\":1," OID "}]" },
        { "evil-absolute", "[{\"type\":\"file\",\"path\":\"/tmp/evil\",\"size\":1," OID "}]" },
        { "evil-control", "[{\"type\":\"file\",\"path\":\"a\\u001b[31mb\",\"size\":1," OID "}]" },
        { "evil-zero", "[{\"type\":\"file\",\"path\":\"a\\u0000b\",\"size\":1," OID "}]" },
        { "evil-hash",
          "[{\"type\":\"file\",\"path\":\"config.json\",\"size\":1,\"oid\":\"../../../x\"}]" },
        { "evil-lfs", "[{\"type\":\"file\",\"path\":\"m.gguf\",\"size\":1," OID
                      ",\"lfs\":{\"oid\":\"../x\",\"size\":1}}]" },
        { "evil-size", "[{\"type\":\"file\",\"path\":\"config.json\",\"size\":-5," OID "}]" },
        { "evil-huge",
          "[{\"type\":\"file\",\"path\":\"config.json\",\"size\":9000000000000000000," OID "}]" },
        { "evil-float", "[{\"type\":\"file\",\"path\":\"config.json\",\"size\":1e3," OID "}]" },
        { "evil-type", "[{\"type\":\"symlink\",\"path\":\"config.json\",\"size\":1," OID "}]" },
        { "evil-object", "{\"files\":[]}" },
        { "evil-utf8", "[{\"type\":\"file\",\"path\":\"a\xff\",\"size\":1," OID "}]" },
        { "evil-twice",
          "[{\"type\":\"file\",\"type\":\"file\",\"path\":\"a\",\"size\":1," OID "}]" },
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (is(mode, lists[i].mode))
            return lists[i].list;
    return NULL;
}

static enum MHD_Result send_deep(struct MHD_Connection *c) {
    enum { DEEP = 200000 };
    char *text = malloc(DEEP + 1);
    memset(text, '[', DEEP);
    text[DEEP] = 0;
    enum MHD_Result ok = send_text(c, 200, text, NULL, NULL);
    free(text);
    return ok;
}

static enum MHD_Result send_tree(struct MHD_Connection *c, const char *org, const char *mode,
                                 const char *cursor) {
    char *text = malloc(1 << 20), link[512] = "";
    size_t n = 0, first = 0, last = n_files;
    const char *evil = evil_list(mode);
    if (evil || is(mode, "evil-deep")) {
        free(text);
        return evil ? send_text(c, 200, evil, NULL, NULL) : send_deep(c);
    }
    if (is(mode, "paged")) {
        first = cursor ? 2 : 0;
        last = cursor ? n_files : 2;
    }
    if ((is(mode, "paged") && !cursor) || is(mode, "endless"))
        snprintf(link, sizeof link,
                 "<http://127.0.0.1:%u/api/models/%s/%s/tree/" COMMIT
                 "?recursive=1&cursor=2>; rel=\"next\"",
                 hub_port, org, mode);
    if (is(mode, "next-elsewhere"))
        snprintf(link, sizeof link, "<http://127.0.0.1:%u/api/x>; rel=\"next\"", cdn_port);
    n += (size_t)sprintf(text + n,
                         "[{\"type\":\"directory\",\"path\":\"sub\",\"oid\":\"x\",\"size\":0}");
    for (size_t i = first; i < last; i++) {
        const struct file *f = &files[i];
        size_t size = f->size + (is(mode, "wrong-size") && f->large ? 1 : 0) -
                      (is(mode, "longer") && f->large ? 1000 : 0);
        char hash[65];
        snprintf(hash, sizeof hash, "%s", f->hash);
        if ((is(mode, "wrong-hash") && f->large) ||
            (is(mode, "wrong-sha1") && strcmp(f->name, "config.json") == 0))
            hash[0] = hash[0] == '0' ? '1' : '0';
        if (f->large)
            n += (size_t)sprintf(text + n,
                                 ",{\"type\":\"file\",\"path\":\"%s\",\"size\":%zu,\"oid\":\"%."
                                 "40s\",\"lfs\":{\"oid\":\"%s\",\"size\":%zu}}",
                                 f->name, size, COMMIT, hash, size);
        else
            n += (size_t)sprintf(text + n,
                                 ",{\"type\":\"file\",\"path\":\"%s\",\"size\":%zu,\"oid\":\"%s\"}",
                                 f->name, size, hash);
    }
    sprintf(text + n, "]");
    enum MHD_Result ok = send_text(c, 200, text, link[0] ? "Link" : NULL, link);
    free(text);
    return ok;
}

static enum MHD_Result send_api(struct MHD_Connection *c, const char *org, const char *mode,
                                const char *rest) {
    pthread_mutex_lock(&lock);
    unsigned seen = ++count_of(mode)->list;
    pthread_mutex_unlock(&lock);
    if (is(mode, "private"))
        return refuse(c, 401, "RepoNotFound", "Repository not found");
    if (is(mode, "missing"))
        return refuse(c, 404, "RepoNotFound", "Repository not found");
    if (is(mode, "limited"))
        return send_text(c, 429, "slow down", "Retry-After", "0");
    if (is(mode, "patience"))
        return send_text(c, 429, "slow down", "Retry-After", "86400");
    if (is(mode, "limited-twice") && seen <= 2)
        return send_text(c, 429, "slow down", "Retry-After", "1");
    if (is(mode, "broken") || (is(mode, "broken-once") && seen == 1))
        return refuse(c, 500, NULL, "\033[31mred");
    if (is(mode, "gzip-list"))
        return send_text(c, 200, "\x1f\x8b", "Content-Encoding", "gzip");
    if (strncmp(rest, "revision/", 9) == 0) {
        if (strcmp(rest, "revision/main") != 0 && strcmp(rest, "revision/" COMMIT) != 0 &&
            strcmp(rest, "revision/pr/1") != 0)
            return refuse(c, 404, "RevisionNotFound", "Invalid rev id");
        return send_info(c, mode);
    }
    return send_tree(c, org, mode, MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "cursor"));
}

/* ------------------------------------------------------------------ contents */

static bool parse_from(const char *range, size_t *from) {
    return range && sscanf(range, "bytes=%zu-", from) == 1;
}

/* A file's bytes with the fault of the mode; `seen` counts from 1. */
static enum MHD_Result send_bytes(struct MHD_Connection *c, const char *mode, const struct file *f,
                                  unsigned seen) {
    const char *range = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Range");
    const char *if_range = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "If-Range");
    char etag[64], content_range[128];
    size_t from = 0, third = f->size / 3;
    bool part = parse_from(range, &from), large = f->large,
         changed = seen > 1 && (is(mode, "changed") || is(mode, "changed-lie"));
    snprintf(etag, sizeof etag, "\"%.16s%s\"", f->hash, changed ? "-new" : "");
    if (part && if_range && strcmp(if_range, etag) != 0 && !is(mode, "changed-lie"))
        part = false;
    if (is(mode, "no-range"))
        part = false;
    if (part && from >= f->size)
        return send_text(c, 416, "", NULL, NULL);
    if (large && is(mode, "always-416") && part)
        return send_text(c, 416, "", NULL, NULL);
    if (!part)
        from = 0;
    struct body *b = calloc(1, sizeof *b);
    b->data = f->data + from;
    b->size = f->size - from;
    b->cut = SIZE_MAX;
    bool cuts = is(mode, "cut") || is(mode, "no-range") || is(mode, "lie") || is(mode, "changed") ||
                is(mode, "changed-lie") || is(mode, "always-416") || is(mode, "no-etag");
    if (large && cuts && seen == 1)
        b->cut = third;
    if (large && is(mode, "cut-always"))
        b->cut = 1000;
    if (large && (is(mode, "slow") || (is(mode, "slow-once") && seen == 1))) {
        b->piece = 10;
        b->pause_ms = 300;
    }
    if (large && is(mode, "steady")) {
        b->piece = 100000;
        b->pause_ms = 20;
    }
    bool unknown_size = large && (is(mode, "longer") || is(mode, "short-chunked"));
    if (large && is(mode, "short-chunked") && seen == 1)
        b->size = third;
    struct MHD_Response *r = MHD_create_response_from_callback(
        unknown_size ? MHD_SIZE_UNKNOWN : b->size, 65536, read_body, b, free_body);
    if (!is(mode, "no-etag"))
        MHD_add_response_header(r, "ETag", etag);
    if (is(mode, "gzip") && large)
        MHD_add_response_header(r, "Content-Encoding", "gzip");
    if (part) {
        size_t told = is(mode, "lie") ? from - 7 : from;
        snprintf(content_range, sizeof content_range, "bytes %zu-%zu/%zu", told, f->size - 1,
                 f->size);
        MHD_add_response_header(r, "Content-Range", content_range);
    }
    enum MHD_Result ok = MHD_queue_response(c, part ? 206 : 200, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result redirect(struct MHD_Connection *c, const char *mode, const char *path,
                                const struct file *f) {
    char to[512], size[32];
    if (is(mode, "to-file"))
        snprintf(to, sizeof to, "file:///etc/passwd");
    else if (is(mode, "to-plain"))
        snprintf(to, sizeof to, "http://example.invalid/x");
    else if (is(mode, "to-user"))
        snprintf(to, sizeof to, "http://name:word@127.0.0.1:%u/x", cdn_port);
    else if (is(mode, "round"))
        snprintf(to, sizeof to, "/x/round/resolve/" COMMIT "/%s", path);
    else
        snprintf(to, sizeof to, "http://127.0.0.1:%u/%s/%s?signature=a%%2Fb", cdn_port, mode, path);
    snprintf(size, sizeof size, "%zu", f->size + (is(mode, "linked-size") ? 5 : 0));
    struct MHD_Response *r =
        MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Location", to);
    MHD_add_response_header(r, "X-Linked-ETag", f->hash);
    if (!is(mode, "longer"))
        MHD_add_response_header(r, "X-Linked-Size", is(mode, "wrong-size") ? "" : size);
    enum MHD_Result ok = MHD_queue_response(c, 302, r);
    MHD_destroy_response(r);
    return ok;
}

/* org/mode/resolve/commit/path on the hub; mode/path on the content server. */
static enum MHD_Result send_file(struct MHD_Connection *c, const char *mode, const char *path,
                                 bool cdn) {
    const struct file *f = find_file(path);
    if (!f)
        return refuse(c, 404, "EntryNotFound", "Entry not found");
    if (f->large && is(mode, "gated"))
        return refuse(c, 403, "GatedRepo", "Access to this model is restricted");
    if (f->large && !cdn && !is(mode, "direct"))
        return redirect(c, mode, path, f);
    pthread_mutex_lock(&lock);
    unsigned seen = f->large ? ++count_of(mode)->file : 1;
    pthread_mutex_unlock(&lock);
    if (f->large && is(mode, "file-503") && seen == 1)
        return send_text(c, 503, "", "Retry-After", "0");
    return send_bytes(c, mode, f, seen);
}

/* ------------------------------------------------------------------ requests */

static void log_request(struct MHD_Connection *c, bool cdn, const char *method, const char *url) {
    const char *names[] = { "Authorization", "Range", "If-Range", "Accept-Encoding" },
               *labels[] = { "auth", "range", "ifrange", "encoding" };
    pthread_mutex_lock(&lock);
    fprintf(log_file, "%s %s %s", cdn ? "cdn" : "hub", method, url);
    for (size_t i = 0; i < 4; i++) {
        const char *v = MHD_lookup_connection_value(c, MHD_HEADER_KIND, names[i]);
        fprintf(log_file, " %s=%s", labels[i], v ? v : "-");
    }
    fprintf(log_file, "\n");
    fflush(log_file);
    pthread_mutex_unlock(&lock);
}

static enum MHD_Result answer(void *user, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state) {
    bool cdn = user != NULL;
    char org[64], mode[64], path[256], word[64];
    (void)version, (void)data, (void)size;
    if (!*state) { /* first call: headers only */
        static int seen;
        *state = &seen;
        return MHD_YES;
    }
    log_request(c, cdn, method, url);
    if (cdn)
        return sscanf(url, "/%63[^/]/%255[^\n]", mode, path) == 2 ? send_file(c, mode, path, true)
                                                                  : refuse(c, 404, NULL, NULL);
    if (sscanf(url, "/api/models/%63[^/]/%63[^/]/%255[^\n]", org, mode, path) == 3)
        return send_api(c, org, mode, path);
    if (sscanf(url, "/%63[^/]/%63[^/]/resolve/%63[^/]/%255[^\n]", org, mode, word, path) == 4 &&
        strcmp(word, COMMIT) == 0)
        return send_file(c, mode, path, false);
    return refuse(c, 404, NULL, NULL);
}

static struct MHD_Daemon *start(void *user, unsigned *port) {
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0, NULL, NULL, answer,
        user, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&here, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!info)
        exit(1);
    *port = info->port;
    return d;
}

int main(int argc, char **argv) {
    if (argc != 3 || !(log_file = fopen(argv[2], "w")))
        return 2;
    load_folder(argv[1]);
    start(NULL, &hub_port);
    start(&cdn_port, &cdn_port);
    printf("%u %u\n", hub_port, cdn_port);
    fflush(stdout);
    for (pid_t parent = getppid(); getppid() == parent;) /* until the test is gone */
        sleep(1);
    return 0;
}
