/* cmd_pull.c - `slm pull ID`: a model from the hub into the Hugging Face cache.
 *
 * ID and options -> repository and a rule which of its files -> the hub's list -> the chosen files,
 * what of them is there -> licence, sizes, room on the disk, a question on a terminal -> each file ->
 * refs/<revision>, which makes the snapshot the one that programs use.
 * With HF_HUB_OFFLINE only the cache is looked at. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/pool.h"
#include "cli/hub.h"

#define SPARE_BYTES (UINT64_C(64) << 20) /* the disk is not filled to the last byte */

struct chosen {
    const struct hub_file *file;
    uint64_t there;   /* bytes of it that are on disk */
    bool done;        /* whole, before this run */
    const char *what; /* "present", "fetched", "resumed", "listed" */
};

struct pull {
    struct cli *c;
    struct hub hub;
    struct hub_cache cache;
    struct hub_listing list;
    slm_card card; /* if known */
    bool known;
    char *repo;
    const char *revision;
    char quant[24];       /* wanted; "" the best, "safetensors" the folder */
    const char *file;     /* wanted, or NULL */
    struct chosen *files; /* [n] */
    size_t n;
    uint64_t total, left, got; /* bytes of the files; that are missing; that came */
    uint64_t start_ns;
};

/* ------------------------------------------------------------------ what is meant */

static const char *next_id(void *user, size_t i) {
    slm_card *card = user;
    card->size = sizeof *card;
    return slm_catalog_get(i, card) == SLM_OK ? card->id : NULL;
}

static bool find_card(const char *id, slm_card *card) {
    for (size_t i = 0; next_id(card, i); i++)
        if (strcasecmp(card->id, id) == 0)
            return true;
    return false;
}

static int unknown_id(struct pull *p, const char *name) {
    slm_card card;
    char ways[256];
    const char *near = nearest_name(name, next_id, &card);
    snprintf(
        ways, sizeof ways,
        "%s%s%sslm models    lists the known models\nslm pull ORG/NAME    takes any repository",
        near ? "did you mean " : "", near ? near : "", near ? "?\n" : "");
    return report(p->c, EXIT_COULD_NOT, "E_NOTFOUND", ways, "'%s' is no known model", name);
}

/* Row of the card for that type of weights; a type that the maker publishes as a folder has two names. */
static const struct slm_hub_file *card_file(const slm_card *card, const char *quant) {
    for (size_t i = 0; i < card->n_files; i++)
        if (card->files[i].quant && strcasecmp(card->files[i].quant, quant) == 0)
            return &card->files[i];
    for (size_t i = 0; i < card->n_files; i++)
        if (!card->files[i].file && strcasecmp(quant, "safetensors") == 0)
            return &card->files[i];
    return NULL;
}

/* Repository that has files of the other types: the first with a GGUF. */
static const char *gguf_repo(const slm_card *card) {
    for (size_t i = 0; i < card->n_files; i++)
        if (card->files[i].file)
            return card->files[i].repo;
    return NULL;
}

static int choose_from_card(struct pull *p) {
    const struct slm_hub_file *row =
        p->quant[0] ? card_file(&p->card, p->quant) : default_file(&p->card);
    const char *repo = row ? row->repo : gguf_repo(&p->card);
    if (!repo)
        return report(p->c, EXIT_COULD_NOT, "E_NOTFOUND", NULL, "no repository is known for %s",
                      p->card.id);
    p->repo = keep(strdup(repo));
    if (row && !row->file)
        snprintf(p->quant, sizeof p->quant, "safetensors");
    else if (row && row->quant)
        snprintf(p->quant, sizeof p->quant, "%s", row->quant);
    return EXIT_DONE;
}

/* Fills in repository, revision, type and file. */
static int choose_source(struct pull *p) {
    const char *name = p->c->options.args[0], *repo = opt_text(p->c, OPT_REPO);
    p->revision = opt_set(p->c, OPT_REVISION) ? opt_text(p->c, OPT_REVISION) : "main";
    p->file = opt_text(p->c, OPT_PULL_FILE);
    if (!hub_revision_ok(p->revision))
        return report_usage(p->c, NULL, "'%s' cannot be a branch, tag or commit", p->revision);
    if (p->file && !hub_path_ok(p->file))
        return report_usage(p->c, NULL, "'%s' cannot be a file of a repository", p->file);
    if (opt_set(p->c, OPT_QUANT))
        snprintf(p->quant, sizeof p->quant, "%s", opt_text(p->c, OPT_QUANT));
    for (char *q = p->quant; *q; q++)
        *q = *q >= 'A' && *q <= 'Z' ? (char)(*q + 32) : *q;
    if (strchr(name, '/') && !repo)
        repo = name;
    const char *id = strchr(name, '/') ? match_repo(name) : name;
    p->known = id && find_card(id, &p->card);
    if (!p->known && !strchr(name, '/'))
        return unknown_id(p, name);
    if (p->known && p->card.builtin && !repo)
        return EXIT_DONE;
    if (!repo)
        return choose_from_card(p);
    if (!hub_repo_ok(repo))
        return report_usage(p->c, NULL, "'%s' cannot be a repository: org/name is expected", repo);
    p->repo = keep(strdup(repo));
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ which files */

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcasecmp(s + n - m, end) == 0;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A model in one GGUF file: no image tower and no part of a split one. */
static bool is_gguf_model(const char *path) {
    return ends_with(path, ".gguf") && strncasecmp(base_name(path), "mmproj", 6) != 0 &&
           !strstr(path, "-of-0");
}

/* What a folder in Hugging Face layout needs, as the engine reads it; images' settings for later. */
static bool belongs_to_folder(const char *path) {
    static const char *const names[] = { "config.json",
                                         "generation_config.json",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "special_tokens_map.json",
                                         "preprocessor_config.json",
                                         "processor_config.json",
                                         "model.safetensors",
                                         "model.safetensors.index.json" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(path, names[i]) == 0)
            return true;
    return strncmp(path, "model-", 6) == 0 && ends_with(path, ".safetensors") && !strchr(path, '/');
}

static bool has_path(const struct hub_listing *l, const char *path) {
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->files[i].path, path) == 0)
            return true;
    return false;
}

static void take(struct pull *p, const struct hub_file *f) {
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->files[i].file->path, f->path) == 0)
            return;
    p->files = keep(realloc(p->files, (p->n + 1) * sizeof *p->files));
    p->files[p->n++] = (struct chosen){ .file = f, .what = "listed" };
}

static bool take_path(struct pull *p, const char *path) {
    for (size_t i = 0; i < p->list.n; i++)
        if (strcmp(p->list.files[i].path, path) == 0) {
            take(p, &p->list.files[i]);
            return true;
        }
    return false;
}

static bool take_folder(struct pull *p) {
    bool weights = false;
    for (size_t i = 0; i < p->list.n; i++)
        weights |= strncmp(p->list.files[i].path, "model", 5) == 0 &&
                   ends_with(p->list.files[i].path, ".safetensors");
    if (!weights || !has_path(&p->list, "config.json"))
        return false;
    for (size_t i = 0; i < p->list.n; i++)
        if (belongs_to_folder(p->list.files[i].path))
            take(p, &p->list.files[i]);
    return true;
}

/* By the type that the names tell; "" takes the best one, judged as the table's rows are. */
static bool take_quant(struct pull *p, const char *quant) {
    struct slm_hub_file *rows = keep(calloc(p->list.n + 1, sizeof *rows));
    char(*names)[24] = keep(calloc(p->list.n + 1, sizeof *names));
    slm_card all = { .size = sizeof all, .files = rows };
    for (size_t i = 0; i < p->list.n; i++) {
        const char *path = p->list.files[i].path;
        quant_of(base_name(path), names[i], sizeof names[i]);
        if (is_gguf_model(path) && (!quant[0] || strcasecmp(names[i], quant) == 0))
            rows[all.n_files++] = (struct slm_hub_file){ .quant = names[i], .file = path };
    }
    const struct slm_hub_file *best = default_file(&all);
    bool ok = best && take_path(p, best->file);
    free(names);
    free(rows);
    return ok;
}

/* The table's own file if the repository still has it, with the image tower that the table lists for it. */
static bool take_card_file(struct pull *p) {
    const struct slm_hub_file *row = NULL;
    for (size_t i = 0; p->known && i < p->card.n_files; i++)
        if (p->card.files[i].file && p->card.files[i].quant &&
            strcasecmp(p->card.files[i].quant, p->quant) == 0 &&
            strcasecmp(p->card.files[i].repo, p->repo) == 0)
            row = &p->card.files[i];
    if (!row || !take_path(p, row->file)) {
        if (row)
            note(p->c, "%s is no longer in %s; looking for another %s file", row->file, p->repo,
                 p->quant);
        return false;
    }
    return true;
}

static void take_tower(struct pull *p) {
    for (size_t i = 0; p->known && i < p->card.n_files; i++) {
        const struct slm_hub_file *f = &p->card.files[i];
        if (f->file && f->quant && strncmp(f->quant, "mmproj", 6) == 0 &&
            strcasecmp(f->repo, p->repo) == 0)
            take_path(p, f->file);
    }
}

static int nothing_fits(struct pull *p) {
    struct buf b;
    char quant[24];
    buf_init(&b, NULL, 4096);
    if (!p->file)
        for (size_t i = 0; i < p->list.n; i++)
            if (is_gguf_model(p->list.files[i].path)) {
                quant_of(base_name(p->list.files[i].path), quant, sizeof quant);
                if (quant[0])
                    buf_printf(&b, "--quant %s    %s\n", quant, p->list.files[i].path);
            }
    if (!p->file && has_path(&p->list, "config.json"))
        buf_puts(&b, "--quant safetensors    the folder\n");
    buf_printf(&b, "--file NAME    any of its files, see %s/%s/tree/%s", p->hub.endpoint, p->repo,
               p->revision);
    int code = p->file ? report(p->c, EXIT_COULD_NOT, "E_NOTFOUND", b.data, "%s has no file '%s'",
                                p->repo, p->file)
                       : report(p->c, EXIT_COULD_NOT, "E_NOTFOUND", b.data,
                                "%s has no %s model that slm reads", p->repo,
                                p->quant[0] ? p->quant : "GGUF or safetensors");
    buf_free(&b);
    return code;
}

static int choose_files(struct pull *p) {
    bool folder = strcmp(p->quant, "safetensors") == 0, ok;
    if (p->file)
        ok = take_path(p, p->file);
    else if (folder)
        ok = take_folder(p);
    else if (p->quant[0])
        ok = take_card_file(p) || take_quant(p, p->quant) ||
             (strcmp(p->quant, "bf16") == 0 && take_folder(p));
    else
        ok = take_folder(p) || take_quant(p, "");
    if (!ok)
        return nothing_fits(p);
    if (!p->file && is_gguf_model(p->files[0].file->path))
        take_tower(p);
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ words */

static const char *licence(const struct pull *p) {
    return p->known && p->card.licence ? p->card.licence
           : p->list.licence[0]        ? p->list.licence
                                       : "not stated";
}

static bool folder_result(const struct pull *p) {
    return p->n > 0 && !ends_with(p->files[0].file->path, ".gguf");
}

/* What to give to --model: the file, or the snapshot. Returns owned. */
static char *result_path(const struct pull *p) {
    return hub_cache_path(&p->cache, folder_result(p) && !p->file ? NULL : p->files[0].file->path);
}

static void show_plan(struct pull *p) {
    char a[32], b[32];
    if (p->c->json)
        return;
    out_printf(&p->c->out, "%s%sfrom %s, %s (%.12s)\n", p->known ? p->card.id : "",
               p->known ? " " : "", p->repo, p->revision, p->list.commit);
    out_printf(
        &p->c->out, "licence %s%s%s%s\n", licence(p), p->known && p->card.licence_url ? ", " : "",
        p->known && p->card.licence_url ? p->card.licence_url : "",
        p->list.gated ? "\n  its terms have to be accepted on the hub's page of the model" : "");
    for (size_t i = 0; i < p->n; i++)
        out_printf(&p->c->out, "  %9s  %s%s\n", format_bytes(p->files[i].file->size, a, sizeof a),
                   p->files[i].file->path,
                   p->files[i].done    ? "  (is there)"
                   : p->files[i].there ? "  (begun)"
                                       : "");
    if (p->left)
        out_printf(&p->c->out, "to fetch %s, free on the disk %s\n",
                   format_bytes(p->left, a, sizeof a),
                   format_bytes(hub_cache_free_bytes(&p->cache), b, sizeof b));
    out_flush(&p->c->out);
}

static json_t *file_json(const struct pull *p, const struct chosen *f) {
    char *path = hub_cache_path(&p->cache, f->file->path);
    json_t *o = keep_json(json_pack(
        "{s:s, s:I, s:s, s:s, s:s}", "file", f->file->path, "bytes", (json_int_t)f->file->size,
        f->file->sha256 ? "sha256" : "git_sha1", f->file->hash, "status", f->what, "path", path));
    free(path);
    return o;
}

static int show_result(struct pull *p) {
    char a[32], b[32], d[32];
    double seconds = (double)(clock_ns() - p->start_ns) / 1e9;
    char *path = result_path(p);
    bool dry = opt_set(p->c, OPT_DRY_RUN);
    if (p->c->json) {
        json_t *list = keep_json(json_array());
        for (size_t i = 0; i < p->n; i++)
            json_array_append_new(list, file_json(p, &p->files[i]));
        json_t *o = keep_json(json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:I, s:I, s:I, s:f}", "repo", p->repo, "revision",
            p->revision, "commit", p->cache.commit, "endpoint", p->hub.endpoint, "licence",
            licence(p), "complete", !dry || p->left == 0, "files", list, "total_bytes",
            (json_int_t)p->total, "missing_bytes", (json_int_t)(dry ? p->left : 0), "fetched_bytes",
            (json_int_t)p->got, "seconds", seconds));
        if (p->known)
            json_object_set_new(o, "id", json_string(p->card.id));
        json_object_set_new(o, "path", json_string(path));
        out_json(&p->c->out, o, false);
    } else if (!dry) {
        if (p->left == 0)
            out_printf(&p->c->out, "already complete, nothing was fetched\n");
        else
            out_printf(
                &p->c->out, "fetched %s in %s (%s/s), hashes are right\n",
                format_bytes(p->got, a, sizeof a), format_seconds(seconds, b, sizeof b),
                format_bytes((uint64_t)((double)p->got / (seconds > 0.001 ? seconds : 0.001)), d,
                             sizeof d));
        out_printf(&p->c->out, "%s\n", path);
        if (p->known && !p->file)
            note(p->c, "use it with: slm run %s", p->card.id);
        else
            note(p->c, "use it with: slm run PATH");
    }
    free(path);
    return EXIT_DONE;
}

/* On a terminal only; elsewhere the command itself is the answer. */
static bool agreed(struct pull *p) {
    char line[64], a[32];
    if (opt_set(p->c, OPT_YES) || p->c->json || !p->c->term.in_tty || !p->c->term.err_tty)
        return true;
    fprintf(stderr, "fetch %s? [Y/n] ", format_bytes(p->left, a, sizeof a));
    fflush(stderr);
    if (!fgets(line, sizeof line, stdin))
        return false;
    return line[0] == '\n' || line[0] == 'y' || line[0] == 'Y';
}

/* ------------------------------------------------------------------ fetching */

static int explain(struct pull *p, slm_err err, const slm_why *why) {
    int code = report_error(p->c, AT_WORK, err, why, p->hub.ways[0] ? p->hub.ways : NULL);
    if (err == SLM_E_CANCELLED && !p->c->json)
        note(p->c, "interrupted; what has come is kept, the same command goes on from there");
    return code;
}

static void count(struct pull *p) {
    p->total = p->left = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct chosen *f = &p->files[i];
        f->done = hub_cache_has_blob(&p->cache, f->file);
        f->there = f->done ? f->file->size : hub_cache_partial(&p->cache, f->file);
        f->what = f->done ? "present" : "listed";
        p->total += f->file->size; /* each is below 2^50 and there are at most 20,000 */
        p->left += f->file->size - f->there;
        if (!f->done && f->there == f->file->size)
            p->left += 1; /* whole but not checked: there is work to do */
    }
}

static int check_room(struct pull *p) {
    char a[32], b[32];
    uint64_t room = hub_cache_free_bytes(&p->cache);
    if (room == UINT64_MAX || p->left == 0 || (room > SPARE_BYTES && p->left <= room - SPARE_BYTES))
        return EXIT_DONE;
    return report(p->c, EXIT_COULD_NOT, "E_IO",
                  "make room\nHF_HUB_CACHE=FOLDER    keeps the models on another disk\n--quant Q   "
                  " a smaller file, see slm models ID",
                  "%s more are needed, the disk of %s has %s free",
                  format_bytes(p->left, a, sizeof a), p->cache.root,
                  format_bytes(room, b, sizeof b));
}

static int fetch_all(struct pull *p) {
    static const char *const words[] = {
        [HUB_PRESENT] = "present", [HUB_FETCHED] = "fetched", [HUB_RESUMED] = "resumed"
    };
    struct progress progress;
    struct hub_transfer t = {
        .hub = &p->hub, .cache = &p->cache, .repo = p->repo, .total = p->left
    };
    slm_why why;
    slm_err err = SLM_OK;
    progress_start(&progress, &p->c->term, p->c->quiet, "fetch", "B");
    p->hub.line = &progress;
    for (size_t i = 0; i < p->n && err == SLM_OK; i++) {
        enum hub_outcome outcome;
        uint64_t got;
        err = hub_fetch(&t, p->files[i].file, &outcome, &got, &why);
        t.before += p->files[i].file->size - p->files[i].there;
        p->got += got;
        p->files[i].what = words[outcome];
    }
    progress_end(&progress);
    p->hub.line = NULL;
    if (err == SLM_OK)
        err = hub_cache_set_ref(&p->cache, p->revision, &why);
    return err == SLM_OK ? EXIT_DONE : explain(p, err, &why);
}

static int pull_online(struct pull *p) {
    slm_why why;
    slm_err err = hub_list(&p->hub, p->repo, p->revision, &p->list, &why);
    if (err != SLM_OK)
        return explain(p, err, &why);
    int code = choose_files(p);
    if (code != EXIT_DONE)
        return code;
    err = hub_cache_open(&p->cache, p->repo, p->list.commit, false, &why);
    if (err != SLM_OK)
        return explain(p, err, &why);
    count(p);
    show_plan(p);
    if (opt_set(p->c, OPT_DRY_RUN))
        return show_result(p);
    code = check_room(p);
    if (code != EXIT_DONE)
        return code;
    if (p->left && !agreed(p))
        return interrupted()
                   ? explain(p, SLM_E_CANCELLED, &why)
                   : report(p->c, EXIT_COULD_NOT, "E_CANCELLED", NULL, "nothing was fetched");
    hub_cache_close(&p->cache);
    err = hub_cache_open(&p->cache, p->repo, p->list.commit, true, &why);
    if (err != SLM_OK)
        return explain(p, err, &why);
    code = fetch_all(p);
    return code == EXIT_DONE ? show_result(p) : code;
}

/* ------------------------------------------------------------------ without a network */

static void add_local(struct pull *p, const char *dir, const char *name) {
    struct stat s;
    char *path = text_printf("%s/%s", dir, name);
    if (!has_path(&p->list, name) && stat(path, &s) == 0 && S_ISREG(s.st_mode)) {
        p->list.files = keep(realloc(p->list.files, (p->list.n + 1) * sizeof *p->list.files));
        p->list.files[p->list.n++] = (struct hub_file){ .path = keep(strdup(name)),
                                                        .size = (uint64_t)s.st_size,
                                                        .sha256 = true };
    }
    free(path);
}

/* The files of a snapshot as a listing: what has its name there is whole. */
static void list_snapshot(struct pull *p, const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && p->list.n < HUB_FILES_MOST && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            add_local(p, dir, e->d_name);
    if (d)
        closedir(d);
    if (p->file)
        add_local(p, dir, p->file);
}

/* Every shard that the index names is there. */
static bool shards_there(const struct pull *p, const char *dir) {
    if (has_path(&p->list, "model.safetensors") ||
        !has_path(&p->list, "model.safetensors.index.json"))
        return true;
    size_t n;
    const char *key;
    json_t *file, *doc = NULL;
    char *path = text_printf("%s/model.safetensors.index.json", dir),
         *text = read_path(path, HUB_TEXT_MOST, &n);
    bool ok = text && json_text(text, n, &doc, NULL) == SLM_OK;
    json_object_foreach(json_object_get(doc, "weight_map"), key, file) ok =
        ok && json_is_string(file) && has_path(&p->list, json_string_value(file));
    json_decref(doc);
    free(text);
    free(path);
    return ok;
}

static int pull_offline(struct pull *p) {
    char commit[HUB_COMMIT_MOST] = "";
    bool there = false;
    slm_why why;
    slm_err err = hub_cache_open(&p->cache, p->repo, commit, false, &why);
    if (err != SLM_OK)
        return explain(p, err, &why);
    if (hub_cache_ref(&p->cache, p->revision, commit)) {
        memcpy(p->cache.commit, commit, sizeof commit);
        char *dir = hub_cache_path(&p->cache, NULL);
        list_snapshot(p, dir);
        bool folder = strcmp(p->quant, "safetensors") == 0;
        there = p->file       ? take_path(p, p->file)
                : folder      ? take_folder(p)
                : p->quant[0] ? take_quant(p, p->quant)
                              : take_folder(p) || take_quant(p, "");
        there = there && (!folder_result(p) || p->file || shards_there(p, dir));
        free(dir);
    }
    if (!there)
        return report(
            p->c, EXIT_COULD_NOT, "E_NOTFOUND", "unset HF_HUB_OFFLINE    to use the network",
            "HF_HUB_OFFLINE is set, and %s%s%s is not complete in %s", p->repo,
            p->quant[0] || p->file ? " " : "", p->file ? p->file : p->quant, p->cache.root);
    for (size_t i = 0; i < p->n; i++) {
        p->files[i].what = "present";
        p->total += p->files[i].file->size;
    }
    return show_result(p);
}

/* ------------------------------------------------------------------ the command */

static int pull(struct pull *p) {
    slm_why why;
    int code = choose_source(p);
    if (code != EXIT_DONE)
        return code;
    if (!p->repo) {
        note(p->c, "%s is part of this program, there is nothing to fetch", p->card.id);
        return EXIT_DONE;
    }
    slm_err err = hub_open(&p->hub, p->c, &why);
    if (err != SLM_OK)
        return err == SLM_E_ARG
                   ? report_usage(p->c, p->hub.ways[0] ? p->hub.ways : NULL, "%s", why.message)
                   : explain(p, err, &why);
    return hub_offline() ? pull_offline(p) : pull_online(p);
}

int cmd_pull(struct cli *c) {
    struct pull p = { .c = c, .start_ns = clock_ns() };
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error of write() like a full disk */
    int code = pull(&p);
    hub_close(&p.hub);
    hub_cache_close(&p.cache);
    hub_listing_free(&p.list);
    free(p.files);
    free(p.repo);
    return code;
}
