/* cmd_logits.c - `slm logits MODEL --ids ...`: the numbers behind the text, as an NPY file.
 *
 * Out: float32 [rows, vocab] (or [rows, hidden] with --hidden), little-endian, C order.
 * NPY version 1.0: "\x93NUMPY", 1, 0, u16 length of the header, a Python dict padded with spaces to
 * a multiple of 64 and a newline (numpy.lib.format documentation). Rows are written as they come, so
 * that a long sequence needs memory for one chunk only. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "cli/cli.h"

enum { IDS_MOST = 64 << 20 };

struct target {
    struct cli *c;
    struct outfile *file; /* NULL: standard output */
};

static slm_err put(struct target *t, const void *data, size_t n, slm_why *why) {
    if (t->file)
        return outfile_write(t->file, data, n, why);
    return out_write(&t->c->out, data, n) ? SLM_OK : SLM_E_IO;
}

static slm_err put_header(struct target *t, size_t rows, size_t cols, slm_why *why) {
    char header[256];
    int n = snprintf(header + 10, sizeof header - 10,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, cols);
    size_t total = ((size_t)n + 10 + 1 + 63) / 64 * 64;
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((total - 10) & 255);
    header[9] = (char)((total - 10) >> 8);
    memset(header + 10 + n, ' ', total - 11 - (size_t)n);
    header[total - 1] = '\n';
    return put(t, header, total, why);
}

/* ------------------------------------------------------------------ input */

static int read_ids(struct cli *c, const struct loaded *m, int32_t **out, size_t *n) {
    const char *text = opt_text(c, OPT_IDS), *bad = "";
    char *input = NULL;
    if (!text)
        return report_usage(c, "--ids 1,2,3\n--ids -    reads them from standard input",
                            "--ids is missing");
    if (strcmp(text, "-") == 0) {
        size_t len;
        input = read_all(STDIN_FILENO, IDS_MOST, &len);
        if (!input)
            return interrupted() ? EXIT_INTERRUPTED
                                 : report(c, EXIT_COULD_NOT, "E_IO", NULL,
                                          "cannot read standard input: %s", strerror(errno));
        text = input;
    }
    int64_t *wide = parse_ints(text, n, &bad);
    int code = EXIT_DONE;
    if (!wide)
        code =
            report_usage(c, NULL, "--ids wants numbers with commas between them, not '%.40s'", bad);
    free(input);
    if (code != EXIT_DONE)
        return code;
    int32_t *ids = keep(malloc(*n * sizeof *ids));
    for (size_t i = 0; i < *n && code == EXIT_DONE; i++) {
        bool image = wide[i] == m->info.image_token && wide[i] >= 0;
        if (!image && (wide[i] < 0 || (uint64_t)wide[i] >= m->info.vocab))
            code = report(c, EXIT_USAGE, "E_ARG", NULL,
                          "id %lld at position %zu is outside the vocabulary of %u",
                          (long long)wide[i], i, m->info.vocab);
        else
            ids[i] = (int32_t)wide[i];
    }
    free(wide);
    if (code != EXIT_DONE) {
        free(ids);
        return code;
    }
    *out = ids;
    return EXIT_DONE;
}

/* Each run of as many image ids as an image has rows becomes the ids of the next image. */
static int put_images(struct cli *c, const struct loaded *m, const struct shown *s, int32_t *ids,
                      size_t n) {
    slm_image_info info = { .size = sizeof info };
    size_t image = 0;
    uint32_t view = 0, tokens = 0, places = 0;
    slm_image_side(m->engine, &tokens);
    for (size_t i = 0; tokens > 0 && i < n; i++) {
        if (ids[i] != m->info.image_token)
            continue;
        size_t run = 1;
        while (run < tokens && i + run < n && ids[i + run] == m->info.image_token)
            run++;
        if (run < tokens)
            return report_usage(c, NULL, "%zu image ids at position %zu, an image has %u", run, i,
                                tokens);
        places++;
        if (image < s->n) {
            slm_image_get(s->list[image], &info);
            memcpy(ids + i, info.ids + (size_t)view * tokens, tokens * sizeof *ids);
            view = view + 1 < info.views ? view + 1 : 0;
            image += view == 0;
        }
        i += tokens - 1;
    }
    if (image < s->n || (s->n > 0 && view > 0) || (places > 0 && s->n == 0))
        return report_usage(c, "--image FILE\n--pixels FILE.npy",
                            "the ids have places for %u images, %zu were given", places, s->n);
    return EXIT_DONE;
}

/* Chunk sizes that cover n tokens: as --split says, the last repeats; one shot without it. */
static size_t *chunk_sizes(const struct cli *c, size_t n, size_t *n_chunks, size_t *largest) {
    size_t n_split = 0, done = 0;
    const char *bad;
    int64_t *split =
        opt_set(c, OPT_SPLIT) ? keep(parse_ints(opt_text(c, OPT_SPLIT), &n_split, &bad)) : NULL;
    size_t *sizes = keep(malloc(n * sizeof *sizes));
    *n_chunks = *largest = 0;
    while (done < n) {
        size_t at = *n_chunks < n_split ? *n_chunks : n_split - 1;
        size_t size = split ? (size_t)split[at] : n;
        if (size > n - done)
            size = n - done;
        sizes[(*n_chunks)++] = size;
        if (size > *largest)
            *largest = size;
        done += size;
    }
    free(split);
    return sizes;
}

/* ------------------------------------------------------------------ evaluation */

struct job {
    const int32_t *ids; /* [n] */
    size_t n;
    const size_t *sizes; /* [n_chunks] */
    size_t n_chunks, largest;
    bool all, hidden;
};

static slm_err evaluate(const struct loaded *m, const struct job *job, struct target *t,
                        slm_why *why) {
    size_t cols = job->hidden ? m->info.hidden : m->info.vocab, done = 0;
    size_t rows = job->hidden || job->all ? job->largest : 1;
    float *data = keep(calloc(rows * cols, sizeof *data));
    slm_err err = put_header(t, job->all ? job->n : 1, cols, why);
    slm_session_expect(m->session, job->n);
    for (size_t i = 0; i < job->n_chunks && err == SLM_OK; i++) {
        size_t size = job->sizes[i];
        bool wanted = job->all || i + 1 == job->n_chunks;
        err = slm_session_append(m->session, job->ids + done, size, job->all && !job->hidden,
                                 job->hidden || !wanted ? NULL : data,
                                 job->hidden && wanted ? data : NULL, why);
        done += size;
        if (err != SLM_OK || !wanted)
            continue;
        size_t first = job->hidden && !job->all ? size - 1 : 0, count = job->all ? size : 1;
        err = put(t, data + first * cols, count * cols * sizeof *data, why);
    }
    free(data);
    return err;
}

static int open_session(struct cli *c, struct loaded *m, const struct job *job) {
    slm_session_options o = session_options(c);
    slm_plan plan = { .size = sizeof plan };
    slm_why why;
    o.context = (uint32_t)opt_int(c, OPT_CONTEXT, (int64_t)job->n);
    o.chunk = (uint32_t)job->largest;
    o.logit_rows = job->all && !job->hidden ? o.chunk : 1;
    if (job->n > o.context)
        return report(c, EXIT_COULD_NOT, "E_CONTEXT", "--context N",
                      "%zu ids do not fit --context %u", job->n, o.context);
    slm_err err = slm_engine_plan(m->engine, &o, &plan, &why);
    if (err == SLM_OK && plan.total > m->allowed) {
        char a[32], b[32];
        return report(c, EXIT_MEMORY_REFUSED, "E_MEMORY",
                      "--split 256    takes less scratch\n--rows last",
                      "%zu ids need %s, free are %s", job->n, format_bytes(plan.total, a, sizeof a),
                      format_bytes(m->allowed, b, sizeof b));
    }
    if (err == SLM_OK)
        err = slm_session_open(m->engine, &o, &m->session, &why);
    return err == SLM_OK ? EXIT_DONE : report_error(c, AT_WORK, err, &why, NULL);
}

static int logits(struct cli *c, struct loaded *m, const struct job *job) {
    struct target t = { .c = c };
    const char *path = opt_text(c, OPT_OUT);
    slm_why why = { .offset = SLM_NO_OFFSET };
    int code = open_session(c, m, job);
    if (code != EXIT_DONE)
        return code;
    if (!path && c->term.out_tty)
        return report_usage(c, "--out FILE.npy", "binary numbers do not go to a terminal");
    slm_err err = path ? outfile_open(NULL, path, &t.file, &why) : SLM_OK;
    signals_watch(m->session);
    if (err == SLM_OK)
        err = evaluate(m, job, &t, &why);
    signals_watch(NULL);
    if (t.file) {
        slm_err closed = outfile_close(t.file, err == SLM_OK, err == SLM_OK ? &why : NULL);
        err = err == SLM_OK ? closed : err;
    }
    if (err == SLM_OK || (!path && (c->out.broken || c->out.failed)))
        return EXIT_DONE; /* a failure of standard output is reported at the end of main */
    return report_error(c, AT_WORK, err, &why, NULL);
}

int cmd_logits(struct cli *c) {
    struct loaded m = { 0 };
    struct job job = { .all = opt_word(c, OPT_ROWS, 0) == 0, .hidden = opt_set(c, OPT_HIDDEN) };
    struct shown shown = { 0 };
    int32_t *ids = NULL;
    size_t *sizes = NULL;
    if (!opt_set(c, OPT_IDS))
        return report_usage(c, "--ids 1,2,3\n--ids -    reads them from standard input",
                            "--ids is missing");
    int code = model_open(c, c->options.args[0], SLM_WEIGHTS, SLM_WEIGHTS, &m);
    if (code == EXIT_DONE)
        code = read_ids(c, &m, &ids, &job.n);
    if (code == EXIT_DONE)
        code = show_given(c, &m, &shown);
    if (code == EXIT_DONE)
        code = put_images(c, &m, &shown, ids, job.n);
    if (code == EXIT_DONE) {
        job.ids = ids;
        job.sizes = sizes = chunk_sizes(c, job.n, &job.n_chunks, &job.largest);
        code = logits(c, &m, &job);
    }
    free(sizes);
    free(ids);
    model_session_close(&m);
    shown_free(&shown);
    model_close(&m);
    return code;
}
