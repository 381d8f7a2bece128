/* load.c - from MODEL on the command line to an engine and a session that fit the memory.
 *
 * The plan comes first: the file's header is read, memory is counted, and only what fits is loaded.
 * The context is --context, or else the least of 8192, the model's own and what the memory holds;
 * where memory decides, that is said. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "cli/cli.h"

static void log_line(void *user, enum slm_log_level level, const char *line) {
    if (level >= SLM_LOG_WARN)
        note(user, "%s", line);
}

static bool load_progress(void *user, const char *stage, uint64_t done, uint64_t total) {
    struct loaded *m = user;
    if (strcmp(m->progress.label, stage) != 0) {
        progress_end(&m->progress);
        progress_start(&m->progress, &m->cli->term, m->cli->quiet, stage, "B");
    }
    progress_step(&m->progress, done, total);
    return !interrupted();
}

slm_engine_options engine_options(struct cli *c, const char *id_hint) {
    slm_engine_options o = slm_engine_default();
    c->hooks = (struct slm_hooks){ .size = sizeof c->hooks, .log = log_line, .user = c };
    o.hooks = &c->hooks;
    o.exact = opt_set(c, OPT_EXACT);
    o.isa = opt_text(c, OPT_ISA);
    o.threads = (unsigned)opt_int(c, OPT_THREADS, 0);
    o.id_hint = id_hint;
    return o;
}

slm_err open_found(const struct found *f, const slm_engine_options *o, slm_engine **engine,
                   slm_why *why) {
    const struct slm_memory_file *files;
    if (!f->demo)
        return slm_engine_open(f->path, o, engine, why);
    size_t n = demo_files(&files);
    return slm_engine_open_memory(files, n, o, engine, why);
}

const char *model_title(const struct loaded *m) {
    return m->info.name && m->info.name[0] ? m->info.name : m->found.demo ? "demo" : m->found.path;
}

/* ------------------------------------------------------------------ memory */

uint64_t memory_allowed(const struct cli *c) {
    struct machine_memory memory;
    if (opt_set(c, OPT_MAX_MEMORY))
        return (uint64_t)opt_int(c, OPT_MAX_MEMORY, 0);
    memory_get(&memory);
    uint64_t margin = memory.available / 10, most = UINT64_C(512) << 20;
    return memory.available - (margin < most ? margin : most);
}

slm_session_options session_options(const struct cli *c) {
    static const enum slm_kv types[] = { SLM_KV_F16, SLM_KV_F32, SLM_KV_BF16, SLM_KV_Q8 };
    slm_session_options o = slm_session_default();
    o.kv = types[opt_word(c, OPT_KV, opt_set(c, OPT_EXACT) ? 1 : 0)];
    o.chunk = (uint32_t)opt_int(c, OPT_CHUNK, 0);
    o.threads = (unsigned)opt_int(c, OPT_THREADS, 0);
    o.sequences = (uint32_t)opt_int(c, OPT_SEQUENCES, 0);
    enum command_id command = c->options.command;
    if (opt_word(c, OPT_SPECULATE, 1) == 0 || command == CMD_BENCH || command == CMD_LOGITS)
        o.speculate = SLM_SPECULATE_OFF;
    o.prompt_cache = opt_text(c, OPT_PROMPT_CACHE);
    return o;
}

static bool plan_fits(const slm_engine *engine, const slm_session_options *base, uint32_t context,
                      uint64_t bytes) {
    slm_session_options o = *base;
    slm_plan plan = { .size = sizeof plan };
    o.context = context;
    return slm_engine_plan(engine, &o, &plan, NULL) == SLM_OK && plan.total <= bytes;
}

uint32_t context_within(const slm_engine *engine, const slm_session_options *base, uint32_t most,
                        uint64_t bytes) {
    enum { STEP = 256 };
    if (plan_fits(engine, base, most, bytes))
        return most;
    uint32_t low = 0, high = most / STEP; /* in steps: low fits (0 holds nothing), high may not */
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (plan_fits(engine, base, middle * STEP, bytes))
            low = middle;
        else
            high = middle - 1;
    }
    return low * STEP;
}

static int refuse_memory(struct cli *c, const struct loaded *m, const slm_engine *engine,
                         uint32_t context) {
    slm_session_options o = session_options(c);
    slm_plan plan = { .size = sizeof plan };
    slm_info info = { .size = sizeof info };
    char need[32], have[32], ways[512], count[32];
    size_t used = 0;
    slm_why why;
    slm_engine_info(engine, &info);
    o.context = context;
    slm_err err = slm_engine_plan(engine, &o, &plan, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    uint32_t fits = context_within(engine, &o, context, m->allowed);
    if (fits)
        used += (size_t)snprintf(ways + used, sizeof ways - used,
                                 "--context %u    the largest that fits\n", fits);
    if (o.kv != SLM_KV_Q8)
        used += (size_t)snprintf(ways + used, sizeof ways - used,
                                 "--kv q8    half the memory for keys and values\n");
    snprintf(ways + used, sizeof ways - used,
             "--max-memory SIZE    if you know better\nslm models    what fits this machine");
    return report(
        c, EXIT_MEMORY_REFUSED, "E_MEMORY", ways, "%s with a context of %s needs %s, %s %s",
        info.name && info.name[0] ? info.name : "the model",
        format_count(context, count, sizeof count), format_bytes(plan.total, need, sizeof need),
        opt_set(c, OPT_MAX_MEMORY) ? "allowed are" : "free are",
        format_bytes(m->allowed, have, sizeof have));
}

/* Reads the header only and refuses what cannot fit, before anything large is touched. */
static int check_memory(struct cli *c, struct loaded *m) {
    slm_engine_options o = engine_options(c, m->found.id);
    slm_session_options s = session_options(c);
    slm_engine *bare = NULL;
    slm_info info = { .size = sizeof info };
    slm_why why;
    int code = EXIT_DONE;
    o.need = o.want = 0;
    slm_err err = open_found(&m->found, &o, &bare, &why);
    if (err != SLM_OK)
        return report_error(c, AT_LOAD, err, &why, NULL);
    slm_plan plan = { .size = sizeof plan };
    slm_engine_info(bare, &info);
    uint32_t least = info.context < 256 ? info.context : 256;
    if (opt_set(c, OPT_CONTEXT) && opt_int(c, OPT_CONTEXT, 0) <= info.context)
        least = (uint32_t)opt_int(c, OPT_CONTEXT, 0);
    s.context = least;
    if (slm_engine_plan(bare, &s, &plan, NULL) == SLM_OK && plan.total > m->allowed)
        code = refuse_memory(c, m, bare, least);
    slm_engine_close(bare);
    return code;
}

/* ------------------------------------------------------------------ open */

int model_open(struct cli *c, const char *name, unsigned need, unsigned want, struct loaded *m) {
    slm_why why;
    memset(m, 0, sizeof *m);
    m->cli = c;
    int code = find_model(c, name, &m->found);
    if (code != EXIT_DONE)
        return code;
    m->allowed = memory_allowed(c);
    if (want & SLM_WEIGHTS)
        code = check_memory(c, m);
    if (code != EXIT_DONE)
        return code;
    slm_engine_options o = engine_options(c, m->found.id);
    o.need = need;
    o.want = want;
    o.progress = load_progress;
    o.user = m;
    char *packed = opt_set(c, OPT_NO_PACKED_CACHE) ? NULL : home_path("packed");
    o.packed_dir = packed;
    slm_why left = { .code = SLM_OK };
    o.vision = opt_text(c, OPT_MMPROJ);
    uint64_t start = clock_ns();
    progress_start(&m->progress, &c->term, c->quiet, "load", "B");
    slm_err err = want & SLM_WEIGHTS ? open_seeing(&m->found, &o, &m->engine, &why, &left)
                                     : open_found(&m->found, &o, &m->engine, &why);
    progress_end(&m->progress);
    free(packed);
    if (err == SLM_OK && left.code != SLM_OK)
        note(c, "the mmproj file beside the model is not used: %s", left.message);
    m->load_ns = clock_ns() - start;
    if (err != SLM_OK) {
        bool no_template = err == SLM_E_NOTFOUND && (need & SLM_TEMPLATE) && (want & SLM_WEIGHTS);
        return report_error(c, AT_LOAD, err, &why,
                            no_template ? "slm complete MODEL TEXT    needs no chat template"
                                        : NULL);
    }
    m->info.size = sizeof m->info;
    slm_engine_info(m->engine, &m->info);
    if (m->found.id && m->found.path && m->info.family &&
        (!m->info.id || strcmp(m->info.id, m->found.id) != 0))
        note(c, "%s was found under the name of %s, but is %s", m->found.path, m->found.id,
             m->info.id ? m->info.id : "another model of its family (derived, not verified)");
    return EXIT_DONE;
}

/* A session on the draft model, as long as the longest that the main one may get; its memory comes
 * first, from what the main one may take. */
static int open_draft(struct cli *c, struct loaded *m, uint32_t context) {
    slm_engine_options o = engine_options(c, NULL);
    slm_session_options s = session_options(c);
    slm_info info = { .size = sizeof info };
    slm_plan plan = { .size = sizeof plan };
    slm_why why;
    if (s.speculate == SLM_SPECULATE_OFF)
        return report_usage(c, NULL, "--draft and --speculate off exclude each other");
    int code = find_model(c, opt_text(c, OPT_DRAFT), &m->draft_found);
    if (code != EXIT_DONE)
        return code;
    o.need = o.want = SLM_WEIGHTS | SLM_TOKENIZER;
    o.id_hint = m->draft_found.id;
    slm_err err = open_found(&m->draft_found, &o, &m->draft_engine, &why);
    if (err != SLM_OK)
        return report_error(c, AT_LOAD, err, &why, NULL);
    slm_engine_info(m->draft_engine, &info);
    s.context = context < info.context ? context : info.context;
    s.speculate = SLM_SPECULATE_OFF;
    s.prompt_cache = NULL;
    s.max_bytes = m->allowed;
    err = slm_engine_plan(m->draft_engine, &s, &plan, &why);
    if (err == SLM_OK)
        err = slm_session_open(m->draft_engine, &s, &m->draft, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why,
                            "leave out --draft\n--context N    a smaller one");
    m->draft_name = info.name;
    m->draft_bytes = plan.total;
    m->allowed -= plan.total;
    return EXIT_DONE;
}

int model_session(struct cli *c, struct loaded *m) {
    slm_session_options o = session_options(c);
    slm_why why;
    uint32_t cap = m->info.context < CONTEXT_DEFAULT ? m->info.context : CONTEXT_DEFAULT;
    if (opt_set(c, OPT_CONTEXT)) {
        int64_t asked = opt_int(c, OPT_CONTEXT, 0);
        o.context = asked > UINT32_MAX ? UINT32_MAX : (uint32_t)asked;
    }
    if (opt_set(c, OPT_DRAFT)) {
        int code = open_draft(c, m, opt_set(c, OPT_CONTEXT) ? o.context : cap);
        if (code != EXIT_DONE)
            return code;
        o.draft = m->draft;
    }
    if (!opt_set(c, OPT_CONTEXT)) {
        o.context = context_within(m->engine, &o, cap, m->allowed);
        if (o.context == 0)
            return refuse_memory(c, m, m->engine, cap < 256 ? cap : 256);
    }
    m->plan.size = sizeof m->plan;
    slm_err err = slm_engine_plan(m->engine, &o, &m->plan, &why);
    if (err == SLM_OK && m->plan.total > m->allowed)
        return refuse_memory(c, m, m->engine, o.context);
    if (err == SLM_OK)
        err = slm_session_open(m->engine, &o, &m->session, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    if (!opt_set(c, OPT_CONTEXT) && o.context < cap) {
        char a[32], b[32];
        note(c, "context is %s instead of %s: more does not fit the free memory",
             format_count(o.context, a, sizeof a), format_count(cap, b, sizeof b));
    }
    return EXIT_DONE;
}

void model_session_close(struct loaded *m) {
    signals_watch(NULL);
    slm_session_close(m->session);
    m->session = NULL;
}

void model_close(struct loaded *m) {
    model_session_close(m);
    slm_session_close(m->draft);
    slm_engine_close(m->draft_engine);
    slm_engine_close(m->engine);
    found_free(&m->draft_found);
    found_free(&m->found);
    m->draft = NULL;
    m->engine = m->draft_engine = NULL;
}

void note_model(const struct cli *c, const struct loaded *m) {
    char context[32], most[32], bytes[32];
    unsigned threads = (unsigned)opt_int(c, OPT_THREADS, (int64_t)cpu_count());
    if (!c->term.err_tty || c->quiet || c->json)
        return;
    fprintf(stderr, "%s%s (%s%s%s%s%s), %s, %u thread%s, context %s of %s, %s%s\n",
            c->term.err_colour ? "\033[2m" : "", model_title(m), m->info.types ? m->info.types : "",
            m->found.place ? ", " : "", m->found.place ? m->found.place : "",
            m->info.id ? "" : ", ", m->info.id ? "" : m->info.trust, m->info.isa, threads,
            threads == 1 ? "" : "s",
            format_count(slm_session_context(m->session), context, sizeof context),
            format_count(m->info.context, most, sizeof most),
            format_bytes(m->plan.total, bytes, sizeof bytes), c->term.err_colour ? "\033[0m" : "");
}
