/* hub_list.c - what the hub's API answers, checked before anything else sees it.
 *
 * api/models/{repo}/revision/{rev}  an object: "sha" is the commit, "gated" and "cardData".license
 *                                   what the owner asks for.
 * api/models/{repo}/tree/{rev}      an array: {"type":"file","path","size","oid", "lfs"?:{"oid","size"}};
 *                                   oid is git's SHA-1 of the blob, lfs.oid the SHA-256 of large files.
 * Source: the hub's API documentation and its answers. Hashes become file names, so they are hex
 * digits of the one length or the list is refused; so is a path that leads out of its folder. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/hub.h"

#define SIZE_MOST (INT64_C(1) << 50) /* bytes of one file */

/* ------------------------------------------------------------------ names */

bool hub_hex_ok(const char *s, size_t digits) {
    return strlen(s) == digits && strspn(s, "0123456789abcdef") == digits;
}

static bool plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* One part of a repository's name. "--" is what separates the parts in the cache's folder names. */
static bool repo_part_ok(const char *s, size_t n) {
    if (n == 0 || n > 96 || s[0] == '.' || s[0] == '-' || s[n - 1] == '.' || s[n - 1] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!plain(s[i]) || (i && s[i] == s[i - 1] && (s[i] == '.' || s[i] == '-')))
            return false;
    return true;
}

bool hub_repo_ok(const char *repo) {
    const char *slash = strchr(repo, '/');
    return slash && repo_part_ok(repo, (size_t)(slash - repo)) &&
           repo_part_ok(slash + 1, strlen(slash + 1));
}

/* Each part between slashes is neither empty nor "." nor "..", at most 255 bytes. */
static bool parts_ok(const char *path, unsigned depth_most) {
    unsigned depth = 0;
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || n > 255 || (n == 1 && p[0] == '.') ||
            (n == 2 && p[0] == '.' && p[1] == '.') || ++depth > depth_most)
            return false;
        p += n;
        if (!*p)
            return true;
    }
}

bool hub_revision_ok(const char *revision) {
    if (strlen(revision) > 200 || !parts_ok(revision, 8))
        return false;
    for (const char *p = revision; *p; p++)
        if (!plain(*p) && *p != '/')
            return false;
    return revision[0] != '-';
}

bool hub_path_ok(const char *path) {
    size_t n = strlen(path);
    if (n >= HUB_PATH_MOST || !parts_ok(path, 16))
        return false;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(path + i, n - i, &cp);
        /* controls, and the marks that turn the direction of text round on a terminal */
        if (!k || cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == '\\' ||
            (cp >= 0x200e && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
            (cp >= 0x2066 && cp <= 0x2069))
            return false;
        i += k;
    }
    return true;
}

void hub_clean(char *text) {
    for (size_t n = strlen(text), i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(text + i, n - i, &cp);
        if (!k || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            memset(text + i, '?', k ? k : 1);
            i += k ? k : 1;
        } else {
            i += k;
        }
    }
}

/* ------------------------------------------------------------------ answers */

static const char *string_at(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

slm_err hub_parse_info(const char *text, size_t n, struct hub_listing *out, slm_why *why) {
    json_t *doc = NULL;
    TRY(json_text(text, n, &doc, why));
    const char *sha = json_is_object(doc) ? string_at(doc, "sha") : NULL;
    slm_err err = SLM_OK;
    if (!sha || !hub_hex_ok(sha, HUB_COMMIT_MOST - 1)) {
        err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                   "the hub names no commit of 40 hex digits, but '%.60s'", sha ? sha : "");
    } else {
        const json_t *gated = json_object_get(doc, "gated"),
                     *card = json_object_get(doc, "cardData");
        const char *licence = string_at(card, "license"), *name = string_at(card, "license_name");
        memcpy(out->commit, sha, HUB_COMMIT_MOST);
        out->gated = json_is_true(gated) || json_is_string(gated);
        snprintf(out->licence, sizeof out->licence, "%s",
                 licence && strcmp(licence, "other") == 0 && name ? name
                 : licence                                        ? licence
                                                                  : "");
        hub_clean(out->licence);
    }
    json_decref(doc);
    return err;
}

/* A file of the listing; E_FORMAT for what must not become a name or a size. */
static slm_err parse_file(const json_t *entry, size_t i, struct hub_file *f, slm_why *why) {
    const char *path = string_at(entry, "path"), *oid = string_at(entry, "oid");
    const json_t *lfs = json_object_get(entry, "lfs"),
                 *size = json_object_get(json_is_object(lfs) ? lfs : entry, "size");
    memset(f, 0, sizeof *f);
    if (json_is_object(lfs)) {
        f->sha256 = true;
        oid = string_at(lfs, "oid");
        if (oid && strncmp(oid, "sha256:", 7) == 0)
            oid += 7;
    }
    if (!path || !hub_path_ok(path))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "entry %zu of the hub's list has a name that is not accepted: '%.100s'", i,
                    path ? path : "");
    if (!oid || !hub_hex_ok(oid, f->sha256 ? 64 : 40))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "'%.100s' in the hub's list has no hash of %d hex digits, but '%.80s'", path,
                    f->sha256 ? 64 : 40, oid ? oid : "");
    if (!json_is_integer(size) || json_integer_value(size) < 0 ||
        json_integer_value(size) > SIZE_MOST)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "'%.100s' in the hub's list has no size between 0 and %lld", path,
                    (long long)SIZE_MOST);
    f->size = (uint64_t)json_integer_value(size);
    memcpy(f->hash, oid, strlen(oid) + 1);
    f->path = keep(strdup(path));
    return SLM_OK;
}

slm_err hub_parse_tree(const char *text, size_t n, struct hub_listing *out, slm_why *why) {
    json_t *doc = NULL, *entry;
    size_t i;
    slm_err err = json_text(text, n, &doc, why);
    if (err == SLM_OK && !json_is_array(doc))
        err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the hub's list of files is no JSON array");
    json_array_foreach(doc, i, entry) {
        const char *type = string_at(entry, "type");
        if (err != SLM_OK)
            break;
        if (type && strcmp(type, "directory") == 0)
            continue;
        if (!type || strcmp(type, "file") != 0) {
            err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                       "entry %zu of the hub's list is neither a file nor a directory", i);
        } else if (out->n == HUB_FILES_MOST) {
            err = fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "the hub lists more than %d files",
                       HUB_FILES_MOST);
        } else {
            if (out->n == out->room)
                out->files = keep(realloc(out->files, (out->room = out->room ? out->room * 2 : 32) *
                                                          sizeof *out->files));
            err = parse_file(entry, i, &out->files[out->n], why);
            out->n += err == SLM_OK;
        }
    }
    json_decref(doc);
    return err;
}

void hub_listing_free(struct hub_listing *l) {
    for (size_t i = 0; i < l->n; i++)
        free(l->files[i].path);
    free(l->files);
    memset(l, 0, sizeof *l);
}

/* ------------------------------------------------------------------ headers */

/* RFC 8288: <address>; param; param, <address>; ... */
bool hub_next_link(const char *header, char *url, size_t size) {
    for (const char *open; (open = strchr(header, '<')) != NULL;) {
        const char *close = strchr(open, '>');
        if (!close)
            return false;
        size_t n = (size_t)(close - open - 1), params = strcspn(close, ",");
        const char *rel = strstr(close, "rel=\"next\"");
        if (rel && rel < close + params && n > 0 && n < size) {
            memcpy(url, open + 1, n);
            url[n] = 0;
            return true;
        }
        header = close + params;
    }
    return false;
}

static const char *parse_number(const char *s, uint64_t *out) {
    uint64_t v = 0;
    size_t n = strspn(s, "0123456789");
    if (n == 0 || n > 18)
        return NULL;
    for (size_t i = 0; i < n; i++)
        v = v * 10 + (uint64_t)(s[i] - '0');
    *out = v;
    return s + n;
}

bool hub_parse_range(const char *text, uint64_t *first, uint64_t *last, uint64_t *total) {
    if (strncmp(text, "bytes ", 6) != 0)
        return false;
    const char *p = parse_number(text + 6, first);
    if (!p || *p != '-' || !(p = parse_number(p + 1, last)) || *p++ != '/')
        return false;
    if (strcmp(p, "*") == 0) {
        *total = UINT64_MAX;
        return *first <= *last;
    }
    p = parse_number(p, total);
    return p && !*p && *first <= *last && *last < *total;
}
