/* cmd_quantize.c - `slm quantize IN OUT --type T`: a model as a GGUF file with another weight type.
 *
 * IN is any MODEL; the built-in demo is written out to a folder of its own first, because the library
 * reads a path. OUT is opened afterwards for the summary, so that what is printed is what is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/outfile.h"
#include "base/pool.h"
#include "cli/cli.h"

enum { TYPES_MOST = 64 };

struct type_sum {
    char name[16];
    uint64_t tensors, bytes, elements;
};

struct summary {
    struct type_sum types[TYPES_MOST];
    size_t n;
    uint64_t in_bytes, out_bytes, tensors, elements, tensor_bytes;
    double seconds;
};

/* ------------------------------------------------------------------ types */

static int unknown_type(struct cli *c, const char *type) {
    struct buf b;
    const char *note, *name;
    buf_init(&b, NULL, 8192);
    for (size_t i = 0; (name = slm_quantize_type(i, &note)) != NULL; i++)
        buf_printf(&b, "%s--type %-8s %s", i ? "\n" : "", name, note);
    int code = type ? report_usage(c, b.data, "there is no weight type '%s'", type)
                    : report_usage(c, b.data, "--type is required: which weight type?");
    buf_free(&b);
    return code;
}

static bool known_type(const char *type) {
    const char *name;
    for (size_t i = 0; (name = slm_quantize_type(i, NULL)) != NULL; i++)
        if (strcasecmp(name, type) == 0)
            return true;
    return false;
}

/* ------------------------------------------------------------------ the demo as a folder */

static void remove_demo(char *folder) {
    const struct slm_memory_file *files;
    size_t n = demo_files(&files);
    for (size_t i = 0; i < n; i++) {
        char *path = text_printf("%s/%s", folder, files[i].name);
        unlink(path);
        free(path);
    }
    rmdir(folder);
    free(folder);
}

/* Returns owned, NULL with *why filled in. */
static char *write_demo(slm_why *why) {
    const struct slm_memory_file *files;
    const char *temporary = getenv("TMPDIR");
    size_t n = demo_files(&files);
    char *folder =
        text_printf("%s/slm-demo-XXXXXX", temporary && temporary[0] ? temporary : "/tmp");
    slm_err err = SLM_OK;
    if (!mkdtemp(folder)) {
        fail(why, SLM_E_IO, SLM_NO_OFFSET, "cannot make a folder like %s", folder);
        free(folder);
        return NULL;
    }
    for (size_t i = 0; i < n && err == SLM_OK; i++) {
        struct outfile *f = NULL;
        char *path = text_printf("%s/%s", folder, files[i].name);
        err = outfile_open(NULL, path, &f, why);
        if (err == SLM_OK)
            outfile_write(f, files[i].data, files[i].size, why);
        if (f)
            err = outfile_close(f, true, why);
        free(path);
    }
    if (err == SLM_OK)
        return folder;
    remove_demo(folder);
    return NULL;
}

/* ------------------------------------------------------------------ summary */

static uint64_t bytes_of(struct cli *c, const char *path) {
    slm_engine_options o = engine_options(c, NULL);
    slm_engine *e = NULL;
    slm_info info = { .size = sizeof info };
    o.need = o.want = 0;
    if (slm_engine_open(path, &o, &e, NULL) == SLM_OK)
        slm_engine_info(e, &info);
    slm_engine_close(e);
    return info.file_bytes;
}

static void add_tensor(struct summary *s, const slm_tensor *t) {
    size_t i = 0;
    uint64_t elements = 1;
    for (uint32_t d = 0; d < t->n_dims; d++)
        elements *= t->dims[d];
    while (i < s->n && strcmp(s->types[i].name, t->type) != 0)
        i++;
    if (i == s->n) {
        if (s->n == TYPES_MOST)
            return;
        snprintf(s->types[s->n++].name, sizeof s->types[0].name, "%s", t->type);
    }
    s->types[i].tensors++;
    s->types[i].bytes += t->bytes;
    s->types[i].elements += elements;
    s->tensors++;
    s->elements += elements;
    s->tensor_bytes += t->bytes;
}

static slm_err read_summary(struct cli *c, const char *path, struct summary *s, slm_why *why) {
    slm_engine_options o = engine_options(c, NULL);
    slm_engine *e = NULL;
    slm_tensor t = { .size = sizeof t };
    slm_info info = { .size = sizeof info };
    o.need = o.want = 0;
    slm_err err = slm_engine_open(path, &o, &e, why);
    if (err != SLM_OK)
        return err;
    slm_engine_info(e, &info);
    s->out_bytes = info.file_bytes;
    for (size_t i = 0; slm_engine_tensor(e, i, &t) == SLM_OK; i++)
        add_tensor(s, &t);
    slm_engine_close(e);
    return SLM_OK;
}

static double bits(uint64_t bytes, uint64_t elements) {
    return elements ? 8.0 * (double)bytes / (double)elements : 0;
}

static void print_summary(struct cli *c, const char *in, const char *out, const struct summary *s) {
    char a[32], b[32], d[32];
    if (c->json) {
        json_t *types = keep_json(json_array());
        for (size_t i = 0; i < s->n; i++)
            json_array_append_new(types,
                                  keep_json(json_pack("{s:s, s:I, s:I}", "type", s->types[i].name,
                                                      "tensors", (json_int_t)s->types[i].tensors,
                                                      "bytes", (json_int_t)s->types[i].bytes)));
        out_json(&c->out,
                 json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:o}", "in", in, "out", out,
                           "type", opt_text(c, OPT_TYPE), "in_bytes", (json_int_t)s->in_bytes,
                           "out_bytes", (json_int_t)s->out_bytes, "tensors", (json_int_t)s->tensors,
                           "bits_per_weight", bits(s->tensor_bytes, s->elements), "seconds",
                           s->seconds, "types", types),
                 false);
        return;
    }
    out_printf(&c->out, "%s: %s from %s in %s, %.2f bits per weight\n", out,
               format_bytes(s->out_bytes, a, sizeof a), format_bytes(s->in_bytes, b, sizeof b),
               format_seconds(s->seconds, d, sizeof d), bits(s->tensor_bytes, s->elements));
    for (size_t i = 0; i < s->n; i++)
        out_printf(&c->out, "  %-8s %6s tensors %10s %8.2f bits\n", s->types[i].name,
                   format_count(s->types[i].tensors, a, sizeof a),
                   format_bytes(s->types[i].bytes, b, sizeof b),
                   bits(s->types[i].bytes, s->types[i].elements));
}

/* ------------------------------------------------------------------ the command */

struct task {
    struct cli *c;
    struct progress progress;
};

static bool on_progress(void *user, const char *stage, uint64_t done, uint64_t total) {
    struct task *t = user;
    (void)stage;
    progress_step(&t->progress, done, total);
    return !interrupted();
}

static int quantize(struct cli *c, const char *in, const char *name, const char *out) {
    struct task t = { .c = c };
    struct summary *s = keep(calloc(1, sizeof *s));
    slm_quantize_options o = slm_quantize_default();
    slm_why why;
    uint64_t start = clock_ns();
    o.hooks = engine_options(c, NULL).hooks;
    o.threads = (unsigned)opt_int(c, OPT_THREADS, 0);
    o.progress = on_progress;
    o.user = &t;
    progress_start(&t.progress, &c->term, c->quiet, "quantize", "B");
    slm_err err = slm_quantize(in, out, opt_text(c, OPT_TYPE), &o, &why);
    progress_end(&t.progress);
    s->seconds = (double)(clock_ns() - start) / 1e9;
    s->in_bytes = err == SLM_OK ? bytes_of(c, in) : 0;
    if (err == SLM_OK)
        err = read_summary(c, out, s, &why);
    if (err == SLM_OK)
        print_summary(c, name, out, s);
    free(s);
    return err == SLM_OK ? EXIT_DONE : report_error(c, AT_LOAD, err, &why, NULL);
}

int cmd_quantize(struct cli *c) {
    const char *name = c->options.args[0], *out = c->options.args[1], *type = opt_text(c, OPT_TYPE);
    struct found found;
    struct stat there;
    slm_why why;
    if (!type || !known_type(type))
        return unknown_type(c, type);
    if (lstat(out, &there) == 0 && S_ISDIR(there.st_mode))
        return report_usage(c, NULL, "%s is a folder; the name of a .gguf file is expected", out);
    if (lstat(out, &there) == 0 && !opt_set(c, OPT_FORCE))
        return report(c, EXIT_COULD_NOT, "E_IO", "--force    replaces it", "%s is there already",
                      out);
    int code = find_model(c, name, &found);
    if (code != EXIT_DONE)
        return code;
    char *demo = found.demo ? write_demo(&why) : NULL;
    if (found.demo && !demo)
        code = report_error(c, AT_WORK, why.code, &why, NULL);
    else
        code = quantize(c, demo ? demo : found.path, name, out);
    if (demo)
        remove_demo(demo);
    found_free(&found);
    return code;
}
