/* places.c - the folders where other programs and slm itself keep models, read in place.
 *
 *   slm           $SLM_HOME/models/{file.gguf, folder, org/folder}
 *   Hugging Face  $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub:
 *                 models--org--name/refs/main -> snapshots/<commit>/{*.gguf, config.json ...}
 *                 (huggingface_hub documentation, "Understand caching")
 *   Ollama        $OLLAMA_MODELS, ~/.ollama/models: manifests/<registry>/<namespace>/<name>/<tag>, a
 *                 JSON list of layers; the one of type application/vnd.ollama.image.model is a GGUF
 *                 file blobs/sha256-<digest>  (Ollama, docs/ and server/manifest)
 *   LM Studio     ~/.lmstudio/models, ~/.cache/lm-studio/models: publisher/repository/file.gguf
 *
 * Folders are walked to these fixed depths only. Nothing is opened but manifests. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cli/hub.h"

enum { ENTRIES_MOST = 4096, MANIFEST_MOST = 1 << 20 };

/* ------------------------------------------------------------------ helpers */

static uint64_t file_size(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) ? (uint64_t)s.st_size : 0;
}

static bool is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcasecmp(s + n - m, end) == 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a folder, sorted, without those that start with a dot. Returns owned [*n]. */
static char **list_folder(const char *path, size_t *n) {
    char **names = NULL;
    size_t room = 0;
    *n = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return NULL;
    for (struct dirent *e; *n < ENTRIES_MOST && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        if (*n == room)
            names = keep(realloc(names, (room = room ? room * 2 : 16) * sizeof *names));
        names[(*n)++] = keep(strdup(e->d_name));
    }
    closedir(dir);
    if (*n)
        qsort(names, *n, sizeof *names, by_name);
    return names;
}

static void free_names(char **names, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

static void add(struct disk_list *list, const char *path, const char *place, const char *id,
                const char *quant, uint64_t bytes, bool folder) {
    if (list->n == list->room)
        list->items = keep(realloc(list->items, (list->room = list->room ? list->room * 2 : 8) *
                                                    sizeof *list->items));
    struct disk_model *m = &list->items[list->n++];
    *m = (struct disk_model){
        .path = keep(strdup(path)), .place = place, .id = id, .bytes = bytes, .folder = folder
    };
    snprintf(m->quant, sizeof m->quant, "%s", quant);
}

/* One file of a folder that may be known as `id` (NULL: judge by the file's own name). */
static void take_gguf(struct disk_list *list, const char *dir, const char *name, const char *place,
                      const char *id) {
    const char *own = match_file(name);
    char quant[24], *path;
    if (!ends_with(name, ".gguf") || strncasecmp(name, "mmproj", 6) == 0 || strstr(name, "-of-0"))
        return; /* image towers and parts of a split file are no models of their own */
    if (!own && !id)
        return;
    quant_of(name, quant, sizeof quant);
    path = text_printf("%s/%s", dir, name);
    uint64_t bytes = file_size(path);
    if (bytes)
        add(list, path, place, own ? own : id, quant, bytes, false);
    free(path);
}

/* A folder in Hugging Face layout: config.json and safetensors. */
static void take_folder(struct disk_list *list, const char *dir, char **names, size_t n,
                        const char *place, const char *id) {
    uint64_t bytes = 0;
    bool config = false;
    for (size_t i = 0; i < n && id; i++) {
        char *path = text_printf("%s/%s", dir, names[i]);
        if (strcmp(names[i], "config.json") == 0)
            config = file_size(path) > 0;
        else if (ends_with(names[i], ".safetensors"))
            bytes += file_size(path);
        free(path);
    }
    if (config && bytes)
        add(list, dir, place, id, "safetensors", bytes, true);
}

/* Everything directly in one folder of a repository. */
static void take_repo(struct disk_list *list, const char *dir, const char *place, const char *id) {
    size_t n;
    char **names = list_folder(dir, &n);
    for (size_t i = 0; i < n; i++)
        take_gguf(list, dir, names[i], place, id);
    take_folder(list, dir, names, n, place, id);
    free_names(names, n);
}

/* ------------------------------------------------------------------ the places */

/* Publisher and repository folders, or a repository at once: slm's own and LM Studio's. */
static void scan_tree(struct disk_list *list, const char *root, const char *place) {
    size_t n;
    char **names = list_folder(root, &n);
    for (size_t i = 0; i < n; i++) {
        char *path = text_printf("%s/%s", root, names[i]);
        take_gguf(list, root, names[i], place, NULL);
        if (is_folder(path)) {
            size_t m;
            char **inner = list_folder(path, &m);
            take_repo(list, path, place, match_repo(names[i]));
            for (size_t k = 0; k < m; k++) {
                char *below = text_printf("%s/%s", path, inner[k]),
                     *repo = text_printf("%s/%s", names[i], inner[k]);
                if (is_folder(below))
                    take_repo(list, below, place, match_repo(repo));
                free(below);
                free(repo);
            }
            free_names(inner, m);
        }
        free(path);
    }
    free_names(names, n);
}

/* The snapshot that refs/main names, else the last one. Returns owned or NULL. */
static char *hub_snapshot(const char *repo_dir) {
    size_t n;
    char *ref = text_printf("%s/refs/main", repo_dir), *commit = read_path(ref, 256, &n),
         *path = NULL;
    free(ref);
    if (commit) {
        commit[strcspn(commit, " \r\n")] = 0;
        if (commit[0] && !strchr(commit, '/') && commit[0] != '.')
            path = text_printf("%s/snapshots/%s", repo_dir, commit);
        free(commit);
    }
    if (path && is_folder(path))
        return path;
    free(path);
    char *folder = text_printf("%s/snapshots", repo_dir), **names = list_folder(folder, &n);
    path = n ? text_printf("%s/%s", folder, names[n - 1]) : NULL;
    free_names(names, n);
    free(folder);
    return path;
}

static void scan_hub(struct disk_list *list, const char *root) {
    size_t n;
    char **names = list_folder(root, &n);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(names[i], "models--", 8) != 0)
            continue;
        char *repo = keep(strdup(names[i] + 8)), *dashes = strstr(repo, "--");
        if (dashes) {
            *dashes = '/';
            memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
        }
        const char *id = match_repo(repo);
        char *dir = id ? text_printf("%s/%s", root, names[i]) : NULL,
             *snapshot = dir ? hub_snapshot(dir) : NULL;
        if (snapshot)
            take_repo(list, snapshot, "Hugging Face cache", id);
        free(snapshot);
        free(dir);
        free(repo);
    }
    free_names(names, n);
}

/* Path of the model blob of a manifest. Returns owned or NULL. */
static char *ollama_blob(const char *root, const char *manifest) {
    size_t n, i;
    json_t *layer;
    char *text = read_path(manifest, MANIFEST_MOST, &n), *path = NULL;
    json_t *doc = text ? json_loadb(text, n, 0, NULL) : NULL;
    json_array_foreach(json_object_get(doc, "layers"), i, layer) {
        const char *type = json_string_value(json_object_get(layer, "mediaType"));
        const char *digest = json_string_value(json_object_get(layer, "digest"));
        if (path || !type || !digest || strcmp(type, "application/vnd.ollama.image.model") != 0)
            continue;
        if (strncmp(digest, "sha256:", 7) == 0 &&
            strspn(digest + 7, "0123456789abcdef") == strlen(digest + 7))
            path = text_printf("%s/blobs/sha256-%s", root, digest + 7);
    }
    json_decref(doc);
    free(text);
    return path;
}

static void take_manifest(struct disk_list *list, const char *root, const char *manifest,
                          const char *space, const char *name, const char *tag, bool hub) {
    char repo[512], quant[24], tagged[300];
    snprintf(repo, sizeof repo, "%.200s/%.200s", space, name);
    const char *id = hub ? match_repo(repo) : match_ollama(name, tag);
    char *blob = id ? ollama_blob(root, manifest) : NULL;
    uint64_t bytes = blob ? file_size(blob) : 0;
    snprintf(tagged, sizeof tagged, "x-%.200s", tag);
    quant_of(tagged, quant, sizeof quant);
    if (bytes)
        add(list, blob, "Ollama", id, quant, bytes, false);
    free(blob);
}

/* manifests/<registry>/<namespace>/<name>/<tag>: four levels, walked with one loop per level. */
static void scan_ollama(struct disk_list *list, const char *root) {
    size_t n[4];
    char **at[4], *base = text_printf("%s/manifests", root);
    at[0] = list_folder(base, &n[0]);
    for (size_t a = 0; a < n[0]; a++) {
        char *registry = text_printf("%s/%s", base, at[0][a]);
        bool hub = strcmp(at[0][a], "hf.co") == 0 || strcmp(at[0][a], "huggingface.co") == 0;
        at[1] = list_folder(registry, &n[1]);
        for (size_t b = 0; b < n[1]; b++) {
            char *space = text_printf("%s/%s", registry, at[1][b]);
            at[2] = list_folder(space, &n[2]);
            for (size_t d = 0; d < n[2]; d++) {
                char *name = text_printf("%s/%s", space, at[2][d]);
                at[3] = list_folder(name, &n[3]);
                for (size_t e = 0; e < n[3]; e++) {
                    char *manifest = text_printf("%s/%s", name, at[3][e]);
                    take_manifest(list, root, manifest, at[1][b], at[2][d], at[3][e], hub);
                    free(manifest);
                }
                free_names(at[3], n[3]);
                free(name);
            }
            free_names(at[2], n[2]);
            free(space);
        }
        free_names(at[1], n[1]);
        free(registry);
    }
    free_names(at[0], n[0]);
    free(base);
}

/* ------------------------------------------------------------------ all of them */

static const char *environment(const char *name) {
    const char *v = getenv(name);
    return v && v[0] ? v : NULL;
}

void disk_scan(struct disk_list *list) {
    const char *user = environment("HOME"), *ollama = environment("OLLAMA_MODELS");
    memset(list, 0, sizeof *list);
    char *path = home_path("models");
    scan_tree(list, path, "slm");
    free(path);
    if (!user)
        user = "/nonexistent";
    path = hub_cache_root();
    scan_hub(list, path);
    free(path);
    path = ollama ? text_printf("%s", ollama) : text_printf("%s/.ollama/models", user);
    scan_ollama(list, path);
    free(path);
    path = text_printf("%s/.lmstudio/models", user);
    scan_tree(list, path, "LM Studio");
    free(path);
    path = text_printf("%s/.cache/lm-studio/models", user);
    scan_tree(list, path, "LM Studio");
    free(path);
}

void disk_free(struct disk_list *list) {
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i].path);
    free(list->items);
    memset(list, 0, sizeof *list);
}

/* Eight bits are near lossless and read the least of what is; below them the larger the better, and
 * full precision costs the most time for nothing that shows. */
static unsigned quant_rank(const char *quant) {
    static const char *const order[] = { "q8_0",   "q6_k",   "q5_k_m",      "q5_k_s",
                                         "q5_1",   "q5_0",   "q4_k_m",      "q4_k_s",
                                         "iq4_xs", "iq4_nl", "q4_1",        "q4_0",
                                         "bf16",   "f16",    "safetensors", "f32" };
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        if (strcmp(order[i], quant) == 0)
            return i;
    return ARRAY_LEN(order);
}

const struct slm_hub_file *default_file(const slm_card *card) {
    const struct slm_hub_file *best = NULL;
    for (size_t i = 0; i < card->n_files; i++) {
        const struct slm_hub_file *f = &card->files[i];
        if (!best || (f->quant && (!best->quant || quant_rank(f->quant) < quant_rank(best->quant))))
            best = f;
    }
    return best;
}

const struct disk_model *disk_best(const struct disk_list *list, const char *id, const char *quant,
                                   uint64_t memory) {
    const struct disk_model *best = NULL;
    bool best_fits = false;
    for (size_t i = 0; i < list->n; i++) {
        const struct disk_model *m = &list->items[i];
        if (strcmp(m->id, id) != 0 || (quant && strcasecmp(quant, m->quant) != 0))
            continue;
        bool fits = !memory || m->bytes <= memory;
        bool better = !best || (fits && !best_fits);
        if (!better && fits == best_fits)
            better = fits ? quant_rank(m->quant) < quant_rank(best->quant) : m->bytes < best->bytes;
        if (better) {
            best = m;
            best_fits = fits;
        }
    }
    return best;
}
