/* cmd_plan.c - `slm plan MODEL`: the memory of a model before it is loaded.
 *
 * Reads the file's header only. For a known model that is not on disk the same columns are estimated
 * from its table (file size of what `slm pull` would fetch, keys and values of its layers). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

struct planned {
    slm_plan plan;
    bool fits;
};

static json_t *plan_json(const struct planned *p) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "context",
                     (json_int_t)p->plan.context, "weights_file", (json_int_t)p->plan.weights_file,
                     "weights_packed", (json_int_t)p->plan.weights_packed, "kv",
                     (json_int_t)p->plan.kv, "scratch", (json_int_t)p->plan.scratch, "vocabulary",
                     (json_int_t)p->plan.vocabulary, "total", (json_int_t)p->plan.total, "fits",
                     p->fits);
}

static void print_plans(struct cli *c, const char *name, const struct planned *plans, size_t n,
                        uint64_t allowed, uint32_t largest, bool exact) {
    char a[6][32];
    if (c->json) {
        struct machine_memory memory;
        json_t *list = keep_json(json_array());
        memory_get(&memory);
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, plan_json(&plans[i]));
        out_json(&c->out,
                 json_pack("{s:s, s:s, s:s, s:I, s:{s:I, s:I, s:I}, s:o}", "model", name, "basis",
                           exact ? "plan" : "estimate", "kv_type",
                           opt_set(c, OPT_KV) ? opt_text(c, OPT_KV) : "f16", "largest_context",
                           (json_int_t)largest, "memory", "total", (json_int_t)memory.total,
                           "available", (json_int_t)memory.available, "allowed",
                           (json_int_t)allowed, "plans", list),
                 false);
        return;
    }
    out_printf(&c->out, "%s%s, keys and values %s%s\n", name,
               exact ? "" : " (not on this disk: estimate)",
               opt_set(c, OPT_KV)      ? opt_text(c, OPT_KV)
               : opt_set(c, OPT_EXACT) ? "f32"
                                       : "f16",
               opt_int(c, OPT_SEQUENCES, 1) > 1 ? ", several sequences" : "");
    out_printf(&c->out, "%10s %11s %11s %11s %11s %11s  %s\n", "context", "weights", "kv",
               "scratch", "vocabulary", "total", "fits");
    for (size_t i = 0; i < n; i++) {
        const slm_plan *p = &plans[i].plan;
        out_printf(&c->out, "%10s %11s %11s %11s %11s %11s  %s\n",
                   format_count(p->context, a[0], sizeof a[0]),
                   format_bytes(p->weights_file + p->weights_packed, a[1], sizeof a[1]),
                   format_bytes(p->kv, a[2], sizeof a[2]),
                   format_bytes(p->scratch, a[3], sizeof a[3]),
                   format_bytes(p->vocabulary, a[4], sizeof a[4]),
                   format_bytes(p->total, a[5], sizeof a[5]), plans[i].fits ? "yes" : "no");
    }
    out_printf(&c->out, "%s %s; the largest context that fits is %s\n",
               opt_set(c, OPT_MAX_MEMORY) ? "allowed are" : "free for a model are",
               format_bytes(allowed, a[0], sizeof a[0]),
               largest ? format_count(largest, a[1], sizeof a[1]) : "none");
}

/* Contexts to plan: as asked, else a ladder in steps of four up to the model's own. */
static int64_t *contexts(struct cli *c, uint32_t own, size_t *n) {
    const char *bad;
    if (opt_set(c, OPT_CONTEXTS))
        return keep(parse_ints(opt_text(c, OPT_CONTEXTS), n, &bad));
    int64_t *list = keep(calloc(16, sizeof *list));
    *n = 0;
    for (int64_t at = own < 2048 ? own : 2048; at < own && *n < 15; at *= 4)
        list[(*n)++] = at;
    list[(*n)++] = own;
    return list;
}

static int refused(struct cli *c, const char *name, const struct planned *least, uint64_t allowed,
                   uint32_t largest) {
    char a[32], b[32], d[32], ways[256];
    char *way = largest ? text_printf("--context %u    the largest that fits\n", largest)
                        : text_printf("%s", "");
    snprintf(ways, sizeof ways, "%s%sslm models    what fits this machine", way,
             opt_set(c, OPT_KV) && strcmp(opt_text(c, OPT_KV), "q8") == 0
                 ? ""
                 : "--kv q8    half the memory for keys and values\n");
    free(way);
    return report(c, EXIT_MEMORY_REFUSED, "E_MEMORY", ways,
                  "%s with a context of %s needs %s, %s %s", name,
                  format_count(least->plan.context, a, sizeof a),
                  format_bytes(least->plan.total, b, sizeof b),
                  opt_set(c, OPT_MAX_MEMORY) ? "allowed are" : "free are",
                  format_bytes(allowed, d, sizeof d));
}

/* One way to plan for both kinds of model. */
struct planner {
    const slm_engine *engine; /* NULL: estimate from the card */
    const slm_card *card;
    uint64_t file_bytes;
    slm_session_options options;
};

static slm_err plan_one(const struct planner *p, int64_t context, slm_plan *out, slm_why *why) {
    slm_session_options o = p->options;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    o.context = context > UINT32_MAX ? UINT32_MAX : (uint32_t)context;
    if (p->engine)
        return slm_engine_plan(p->engine, &o, out, why);
    if (o.context > p->card->context) {
        why->offset = SLM_NO_OFFSET;
        snprintf(why->message, sizeof why->message,
                 "context %u is larger than the %u positions that %s was made for", o.context,
                 p->card->context, p->card->id);
        return SLM_E_CONTEXT;
    }
    uint64_t sequences = o.sequences ? o.sequences : 1,
             kv = p->card->kv_bytes_fixed + p->card->kv_bytes_token * o.context;
    /* the card counts two bytes per number; q8 blocks are 34 bytes for 32 numbers */
    if (o.kv == SLM_KV_F32)
        kv *= 2;
    else if (o.kv == SLM_KV_Q8)
        kv = kv / 64 * 34;
    out->context = o.context;
    out->weights_file = p->file_bytes;
    out->kv = kv * sequences;
    out->total = out->weights_file + out->kv;
    return SLM_OK;
}

static uint32_t largest_context(const struct planner *p, uint32_t own, uint64_t allowed) {
    slm_plan plan;
    slm_why why;
    if (p->engine)
        return context_within(p->engine, &p->options, own, allowed);
    uint32_t low = 0, high = own;
    if (plan_one(p, own, &plan, &why) == SLM_OK && plan.total <= allowed)
        return own;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (plan_one(p, middle, &plan, &why) == SLM_OK && plan.total <= allowed)
            low = middle;
        else
            high = middle - 1;
    }
    return low / 256 * 256;
}

static int plan_all(struct cli *c, const struct planner *p, const char *name, uint32_t own) {
    uint64_t allowed = memory_allowed(c);
    size_t n, fitting = 0, least = 0;
    slm_why why;
    int64_t *list = contexts(c, own, &n);
    struct planned *plans = keep(calloc(n, sizeof *plans));
    slm_err err = SLM_OK;
    for (size_t i = 0; i < n && err == SLM_OK; i++) {
        err = plan_one(p, list[i], &plans[i].plan, &why);
        plans[i].fits = plans[i].plan.total <= allowed;
        fitting += plans[i].fits;
        if (plans[i].plan.total < plans[least].plan.total)
            least = i;
    }
    int code = EXIT_DONE;
    if (err != SLM_OK) {
        code = report_error(c, AT_WORK, err, &why, NULL);
    } else {
        uint32_t largest = largest_context(p, own, allowed);
        if (fitting || !c->json)
            print_plans(c, name, plans, n, allowed, largest, p->engine != NULL);
        if (!fitting)
            code = refused(c, name, &plans[least], allowed, largest);
    }
    free(plans);
    free(list);
    return code;
}

/* A known id that is on no disk; false when it is on disk or not known. */
static bool only_in_table(const char *name, slm_card *card) {
    struct disk_list list;
    bool known = false;
    for (size_t i = 0; i < slm_catalog_count() && !known; i++) {
        card->size = sizeof *card;
        known =
            slm_catalog_get(i, card) == SLM_OK && !card->builtin && strcasecmp(card->id, name) == 0;
    }
    if (!known || !default_file(card) || !default_file(card)->bytes)
        return false;
    disk_scan(&list);
    bool on_disk = disk_best(&list, card->id, NULL, 0) != NULL;
    disk_free(&list);
    return !on_disk;
}

int cmd_plan(struct cli *c) {
    const char *name = c->options.args[0];
    struct planner p = { .options = session_options(c) };
    struct loaded m = { 0 };
    slm_card card;
    if (only_in_table(name, &card)) {
        const struct slm_hub_file *file = default_file(&card);
        char *title = text_printf("%s %s", card.id, file->quant ? file->quant : "");
        p.card = &card;
        p.file_bytes = file->bytes;
        int code = plan_all(c, &p, title, card.context);
        free(title);
        return code;
    }
    int code = model_open(c, name, 0, 0, &m);
    if (code == EXIT_DONE) {
        p.engine = m.engine;
        code = plan_all(c, &p, model_title(&m), m.info.context);
    }
    model_close(&m);
    return code;
}
