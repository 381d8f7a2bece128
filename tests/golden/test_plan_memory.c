/* test_plan_memory.c - what slm_engine_plan says against what a process really takes.
 *
 * For each case a file with random weights in layers of real size is written. The plan is made by an
 * engine that loads nothing. Then a child process opens the model, fills the whole context, samples
 * some tokens, and reports the peak of its resident memory (VmHWM; it counts mapped pages of files
 * too) above what it had before. Both must agree within 5 %: with panels in memory, with panels that
 * are written to a file, and with that file found. So at no time is the model file in memory beside
 * its panels.
 *
 * A long context with five sliding layers to a full one is looked at apart: what is filled after the
 * windows are full may only cost the full layer's rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "format/format.h"
#include "models/desc.h"
#include "slm.h"
#include "support.h"

#define TOLERANCE 0.05
#define GENERATED 12
#define NOTHING 6000000 /* bytes that planning without loading may take: metadata, tables */

/* A memory measurement means nothing where the allocator keeps shadow memory, and the reference
 * kernels would take minutes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct shape {
    const char *name, *arch, *tokenizer; /* tokenizer: of the reference folder, or NULL */
    enum dtype matrix, embed;
    uint32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab, window;
    bool separate_output;
    uint32_t context, chunk;
    enum slm_kv kv;
};

static const struct shape shapes[] = {
    { "full attention, Q8_0 and Q4_K, f16 cache", "qwen3", NULL, DT_Q4_K, DT_Q8_0, 8, 1024, 16, 8,
      128, 3072, 60000, 0, false, 1600, 0, SLM_KV_F16 },
    { "sliding windows, Q8_0, f32 cache", "gemma3", NULL, DT_Q8_0, DT_Q8_0, 6, 768, 8, 4, 256, 3072,
      50000, 512, false, 2500, 64, SLM_KV_F32 },
    { "separate output matrix, Q6_K, q8 cache", "qwen3", NULL, DT_Q6_K, DT_Q6_K, 4, 1024, 16, 8,
      128, 3072, 70000, 0, true, 900, 512, SLM_KV_Q8 },
    { "bfloat16, real vocabulary", "qwen3", "tokenizers/qwen3", DT_BF16, DT_BF16, 3, 512, 8, 4, 128,
      1536, 151936, 0, false, 600, 0, SLM_KV_BF16 },
    { "a long context, five layers of six with windows", "gemma3", NULL, DT_Q8_0, DT_Q8_0, 6, 256,
      4, 4, 256, 512, 8000, 256, false, 16384, 256, SLM_KV_BF16 },
};

/* ------------------------------------------------------------------ the file */

static uint64_t state = 0x853c49e6748fea9bu;

static uint64_t rnd(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Random blocks whose scales are small numbers: offsets of the 2-byte halves inside a block. */
static void fill_blocks(uint8_t *out, size_t n, enum dtype t) {
    static const uint8_t small[2] = { 0x00, 0x14 }; /* float16 2^-10 */
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t x = rnd();
        memcpy(out + i, &x, 8);
    }
    size_t block = t == DT_Q8_0 ? 34 : t == DT_Q4_K ? 144 : t == DT_Q6_K ? 210 : 0;
    for (size_t at = 0; block > 0 && at + block <= n; at += block) {
        memcpy(out + at + (t == DT_Q6_K ? 208 : 0), small, 2);
        if (t == DT_Q4_K)
            memcpy(out + at + 2, small, 2);
    }
    for (size_t i = 0; t == DT_BF16 && i + 2 <= n;
         i += 2) /* sign and fraction random, about 2^-6 */
        out[i + 1] = (uint8_t)((out[i + 1] & 0x80) | 0x3c);
}

struct writing {
    struct gguf_writer *w;
    const struct shape *s;
    const struct family *family;
    struct tensor {
        enum dtype t;
        uint64_t rows, cols;
    } list[256];
    size_t n;
};

static void declare(struct writing *g, enum slot slot, uint32_t layer, enum dtype t, uint64_t rows,
                    uint64_t cols) {
    const char *pattern = g->family->gguf_names[slot];
    char name[128];
    if (pattern == NULL)
        return;
    const char *mark = strstr(pattern, "%u");
    if (mark != NULL)
        snprintf(name, sizeof name, "%.*s%u%s", (int)(mark - pattern), pattern, layer, mark + 2);
    else
        snprintf(name, sizeof name, "%s", pattern);
    uint64_t dims[2] = { rows, cols };
    assert_int_equal(gguf_put_tensor(g->w, name, t, rows > 1 ? 2 : 1, rows > 1 ? dims : dims + 1),
                     SLM_OK);
    assert_true(g->n < ARRAY_LEN(g->list));
    g->list[g->n++] = (struct tensor){ t, rows, cols };
}

static void put_u32(struct writing *g, const char *rest, uint32_t v) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", g->s->arch, rest);
    assert_int_equal(gguf_put_u32(g->w, key, v), SLM_OK);
}

static void put_f32(struct writing *g, const char *rest, float v) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", g->s->arch, rest);
    assert_int_equal(gguf_put_f32(g->w, key, v), SLM_OK);
}

static void put_metadata(struct writing *g) {
    const struct shape *s = g->s;
    assert_int_equal(gguf_put_str(g->w, "general.architecture", s->arch, strlen(s->arch)), SLM_OK);
    put_u32(g, "block_count", s->layers);
    put_u32(g, "context_length", s->context > 8192 ? s->context : 8192);
    put_u32(g, "embedding_length", s->hidden);
    put_u32(g, "feed_forward_length", s->ffn);
    put_u32(g, "attention.head_count", s->heads);
    put_u32(g, "attention.head_count_kv", s->kv_heads);
    put_u32(g, "attention.key_length", s->head_dim);
    put_u32(g, "attention.value_length", s->head_dim);
    put_f32(g, "attention.layer_norm_rms_epsilon", 1e-6f);
    put_f32(g, "rope.freq_base", 1e6f);
    if (s->window > 0)
        put_u32(g, "attention.sliding_window", s->window);
}

static void declare_all(struct writing *g) {
    const struct shape *s = g->s;
    uint64_t q = (uint64_t)s->heads * s->head_dim, k = (uint64_t)s->kv_heads * s->head_dim;
    declare(g, SLOT_EMBED, 0, s->embed, s->vocab, s->hidden);
    declare(g, SLOT_FINAL_NORM, 0, DT_F32, 1, s->hidden);
    if (s->separate_output)
        declare(g, SLOT_OUTPUT, 0, s->embed, s->vocab, s->hidden);
    for (uint32_t i = 0; i < s->layers; i++) {
        declare(g, SLOT_ATTN_NORM, i, DT_F32, 1, s->hidden);
        declare(g, SLOT_POST_ATTN_NORM, i, DT_F32, 1, s->hidden);
        declare(g, SLOT_FFN_NORM, i, DT_F32, 1, s->hidden);
        declare(g, SLOT_POST_FFN_NORM, i, DT_F32, 1, s->hidden);
        declare(g, SLOT_Q_NORM, i, DT_F32, 1, s->head_dim);
        declare(g, SLOT_K_NORM, i, DT_F32, 1, s->head_dim);
        declare(g, SLOT_Q, i, s->matrix, q, s->hidden);
        declare(g, SLOT_K, i, s->matrix, k, s->hidden);
        declare(g, SLOT_V, i, s->matrix, k, s->hidden);
        declare(g, SLOT_O, i, s->matrix, s->hidden, q);
        declare(g, SLOT_GATE, i, s->matrix, s->ffn, s->hidden);
        declare(g, SLOT_UP, i, s->matrix, s->ffn, s->hidden);
        declare(g, SLOT_DOWN, i, s->matrix, s->hidden, s->ffn);
    }
}

static void write_data(struct writing *g) {
    for (size_t i = 0; i < g->n; i++) {
        size_t row;
        assert_true(dtype_row_bytes(g->list[i].t, g->list[i].cols, &row));
        uint8_t *one = malloc(row);
        for (uint64_t r = 0; r < g->list[i].rows; r++) {
            if (g->list[i].t == DT_F32)
                for (size_t k = 0; k < row; k += 4)
                    memcpy(one + k, &(float){ 1.0f }, 4);
            else
                fill_blocks(one, row, g->list[i].t);
            assert_int_equal(gguf_write_data(g->w, one, row, NULL), SLM_OK);
        }
        free(one);
    }
}

static void write_file(const struct shape *s, const char *path) {
    struct writing *g = calloc(1, sizeof *g);
    g->s = s;
    g->family = strcmp(s->arch, "gemma3") == 0 ? &family_gemma3 : &family_qwen3;
    assert_int_equal(gguf_writer_new(NULL, path, &g->w, NULL), SLM_OK);
    put_metadata(g);
    declare_all(g);
    write_data(g);
    assert_int_equal(gguf_writer_close(g->w, true, NULL), SLM_OK);
    free(g);
}

/* ------------------------------------------------------------------ measuring */

static uint64_t status_bytes(const char *key) {
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtoull(line + strlen(key), NULL, 10);
    if (f != NULL)
        fclose(f);
    return kib * 1024;
}

/* Forgets the peak so far; false where the system has no such thing. */
static bool reset_peak(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w");
    bool ok = f != NULL && fputs("5", f) >= 0;
    return f != NULL && fclose(f) == 0 && ok;
}

typedef bool (*work_fn)(const char *path, const struct shape *s, uint64_t *out);

/* Runs work in a child; *peak is what its resident memory grew by at most. */
static bool in_child(work_fn work, const char *path, const struct shape *s, uint64_t *peak,
                     uint64_t *out) {
    int pipe_ends[2];
    uint64_t result[3] = { 0 };
    assert_int_equal(pipe(pipe_ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        reset_peak();
        uint64_t before = status_bytes("VmRSS:");
        bool ok = work(path, s, &result[1]);
        result[0] = status_bytes("VmHWM:") - before;
        ok = ok && write(pipe_ends[1], result, sizeof result) == (ssize_t)sizeof result;
        _exit(ok ? 0 : 1);
    }
    close(pipe_ends[1]);
    bool got = read(pipe_ends[0], result, sizeof result) == (ssize_t)sizeof result;
    close(pipe_ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    *peak = result[0];
    memcpy(out, result + 1, 2 * sizeof *out);
    return got && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static slm_session_options session_of(const struct shape *s) {
    slm_session_options o = slm_session_default();
    o.context = s->context;
    o.chunk = s->chunk;
    o.kv = s->kv;
    o.threads = 2;
    return o;
}

static bool failed(const slm_why *why) {
    printf("# %s\n", why->message);
    fflush(stdout);
    return false;
}

static bool make_plan(const char *path, const struct shape *s, uint64_t *out) {
    slm_engine_options o = slm_engine_default();
    slm_session_options so = session_of(s);
    slm_engine *e = NULL;
    slm_plan p = { .size = sizeof p };
    slm_why why;
    o.need = o.want = 0;
    if (slm_engine_open(path, &o, &e, &why) != SLM_OK ||
        slm_engine_plan(e, &so, &p, &why) != SLM_OK)
        return failed(&why);
    slm_engine_close(e);
    printf("# planned: weights %.1f + %.1f, cache %.1f, scratch %.1f, vocabulary %.1f\n",
           (double)p.weights_file / 1e6, (double)p.weights_packed / 1e6, (double)p.kv / 1e6,
           (double)p.scratch / 1e6, (double)p.vocabulary / 1e6);
    fflush(stdout);
    out[0] = p.total;
    out[1] = p.weights_file;
    return true;
}

static char packed_dir[512]; /* where use_model keeps panels; empty: nowhere */

static bool use_model(const char *path, const struct shape *s, uint64_t *out) {
    slm_engine_options o = slm_engine_default();
    slm_session_options so = session_of(s);
    slm_generate_options g = slm_generate_default();
    slm_engine *e = NULL;
    slm_session *session = NULL;
    slm_result r = { .size = sizeof r };
    slm_why why;
    o.need = o.want = s->tokenizer != NULL ? SLM_WEIGHTS | SLM_TOKENIZER : SLM_WEIGHTS;
    o.threads = 2;
    o.packed_dir = packed_dir[0] != '\0' ? packed_dir : NULL;
    g.default_sampling = false;
    g.sampling.temperature = 1.0f;
    g.sampling.presence_penalty = 0.1f;
    if (slm_engine_open(path, &o, &e, &why) != SLM_OK ||
        slm_session_open(e, &so, &session, &why) != SLM_OK)
        return failed(&why);
    size_t n = s->context - GENERATED;
    int32_t *ids = malloc(n * sizeof *ids); /* a few kB, never freed: it is the program's */
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(rnd() % s->vocab);
    g.ignore_stop_ids = true;
    if (slm_session_sync(session, ids, n, NULL, &why) != SLM_OK ||
        slm_generate(session, &g, &r, &why) != SLM_OK)
        return failed(&why);
    *out = r.output_tokens;
    return r.finish == SLM_FINISH_CONTEXT;
}

/* ------------------------------------------------------------------ safetensors with a tokenizer */

/* The same weights as a Hugging Face folder: written as GGUF, read back, and put behind a header. */
static bool write_folder(const struct shape *s, char *folder, size_t size) {
    static const char *const hf[][2] = {
        { "token_embd", "model.embed_tokens" }, { "output_norm", "model.norm" },
        { "attn_norm", "input_layernorm" },     { "attn_q", "self_attn.q_proj" },
        { "attn_k", "self_attn.k_proj" },       { "attn_v", "self_attn.v_proj" },
        { "attn_q_norm", "self_attn.q_norm" },  { "attn_k_norm", "self_attn.k_norm" },
        { "attn_output", "self_attn.o_proj" },  { "ffn_norm", "post_attention_layernorm" },
        { "ffn_gate", "mlp.gate_proj" },        { "ffn_up", "mlp.up_proj" },
        { "ffn_down", "mlp.down_proj" },
    };
    char path[512], buffer[600], *header = malloc(1 << 16);
    char config[1024];
    int n = snprintf(config, sizeof config,
                     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"num_"
                     "hidden_layers\":%u,\"hidden_size\":%u,"
                     "\"intermediate_size\":%u,\"num_attention_heads\":%u,\"num_key_value_heads\":%"
                     "u,\"head_dim\":%u,"
                     "\"vocab_size\":%u,\"max_position_embeddings\":8192,\"rope_theta\":1000000,"
                     "\"rms_norm_eps\":1e-6,"
                     "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}",
                     s->layers, s->hidden, s->ffn, s->heads, s->kv_heads, s->head_dim, s->vocab);
    snprintf(buffer, sizeof buffer, "%s/tokenizer.json.gz", s->tokenizer);
    const char *from = ref_path(path, sizeof path, buffer);
    if (from == NULL)
        return false;
    size_t n_text;
    char *text = slurp_gz(from, &n_text);
    assert_non_null(text);
    assert_true(temp_file(path, sizeof path, "plan-hf/tokenizer.json", text, n_text));
    free(text);
    assert_true(temp_file(path, sizeof path, "plan-hf/config.json", config, (size_t)n));
    snprintf(folder, size, "%.*s", (int)(strlen(path) - strlen("/config.json")), path);
    assert_true(temp_file(path, sizeof path, "plan-hf.gguf", "", 0));
    write_file(s, path);
    struct tensors *t;
    assert_int_equal(tensors_open(NULL, path, &t, NULL), SLM_OK);
    size_t used = (size_t)snprintf(header, 1 << 16, "{"), at = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tensor_info *x = &t->list[i];
        char part[64] = "";
        unsigned layer = 0;
        bool in_layer = sscanf(x->name, "blk.%u.%63[^.]", &layer, part) == 2;
        if (!in_layer)
            sscanf(x->name, "%63[^.]", part);
        const char *name = NULL;
        for (size_t k = 0; k < ARRAY_LEN(hf); k++)
            name = strcmp(hf[k][0], part) == 0 ? hf[k][1] : name;
        assert_non_null(name);
        snprintf(buffer, sizeof buffer, in_layer ? "model.layers.%u." : "%.0u",
                 in_layer ? layer : 0);
        used +=
            (size_t)snprintf(header + used, (1 << 16) - used,
                             "%s\"%s%s.weight\":{\"dtype\":\"%s\",\"shape\":[%llu%s",
                             i > 0 ? "," : "", buffer, name, x->dtype == DT_F32 ? "F32" : "BF16",
                             (unsigned long long)x->dims[0], x->n_dims > 1 ? "," : "");
        if (x->n_dims > 1)
            used += (size_t)snprintf(header + used, (1 << 16) - used, "%llu",
                                     (unsigned long long)x->dims[1]);
        used += (size_t)snprintf(header + used, (1 << 16) - used, "],\"data_offsets\":[%zu,%zu]}",
                                 at, at + (size_t)x->size);
        at += (size_t)x->size;
    }
    header[used++] = '}';
    while (used % 8 != 0)
        header[used++] = ' ';
    snprintf(buffer, sizeof buffer, "%s/model.safetensors", folder);
    FILE *f = fopen(buffer, "wb");
    assert_non_null(f);
    uint64_t length = used;
    bool ok = fwrite(&length, 8, 1, f) == 1 && fwrite(header, used, 1, f) == 1;
    for (uint32_t i = 0; i < t->n; i++)
        ok = ok && fwrite(t->list[i].data, (size_t)t->list[i].size, 1, f) == 1;
    assert_true(fclose(f) == 0 && ok);
    tensors_close(t);
    free(header);
    remove(path);
    return true;
}

/* ------------------------------------------------------------------ tests */

/* The files of a folder without folders below it, and itself: large ones should not wait for the end. */
static void drop_folder(const char *dir) {
    char path[1024];
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

static void check_shape(const struct shape *s) {
    char path[512];
    uint64_t plan[2] = { 0 }, peak = 0, tokens[2] = { 0 }; /* plan: total, of which mapped */
    if (SANITIZED || (test_isa() != NULL && strcmp(test_isa(), "ref") == 0)) {
        print_message(
            "# skip memory is not measured under sanitizers and with the reference kernels\n");
        skip();
    }
    print_message("# %s\n", s->name);
    if (s->tokenizer != NULL) {
        if (!write_folder(s, path, sizeof path))
            skip();
    } else {
        assert_true(temp_file(path, sizeof path, "plan.gguf", "", 0));
        write_file(s, path);
    }
    assert_true(in_child(make_plan, path, s, &peak, plan));
    print_message("# planning itself took %.1f MB\n", (double)peak / 1e6);
    assert_true(peak < NOTHING);
    static const char *const ways[] = { "in memory", "written to a file", "found in a file" };
    for (size_t way = 0; way < ARRAY_LEN(ways); way++) {
        packed_dir[0] = '\0';
        if (way > 0)
            snprintf(packed_dir, sizeof packed_dir, "%.490s.packed", path);
        assert_true(in_child(use_model, path, s, &peak, tokens));
        assert_int_equal(tokens[0], GENERATED);
        double high = (double)peak / (double)plan[0] - 1.0;
        double low = (double)peak / (double)(plan[0] - plan[1]) - 1.0;
        print_message("# panels %s: planned %.1f MB, measured %.1f MB (%+.1f %%)\n", ways[way],
                      (double)plan[0] / 1e6, (double)peak / 1e6, 100.0 * high);
        /* rows of a mapped embedding come in as tokens use them */
        assert_true(high < TOLERANCE && low > -TOLERANCE);
    }
    drop_folder(packed_dir);
    if (s->tokenizer == NULL)
        remove(path);
}

static void test_full(void **state_unused) {
    (void)state_unused;
    check_shape(&shapes[0]);
}

static void test_sliding(void **state_unused) {
    (void)state_unused;
    check_shape(&shapes[1]);
}

static void test_separate_output(void **state_unused) {
    (void)state_unused;
    check_shape(&shapes[2]);
}

static void test_folder(void **state_unused) {
    (void)state_unused;
    check_shape(&shapes[3]);
}

/* ------------------------------------------------------------------ a long context */

#define FULL_WINDOWS 2048 /* positions after which no sliding layer takes more memory */

/* Fills some positions, then the whole context; *out: what resident memory grew by in between. */
static bool fill_long(const char *path, const struct shape *s, uint64_t *out) {
    slm_engine_options o = slm_engine_default();
    slm_session_options so = session_of(s);
    slm_engine *e = NULL;
    slm_session *session = NULL;
    slm_why why;
    o.need = o.want = SLM_WEIGHTS;
    o.threads = 2;
    if (slm_engine_open(path, &o, &e, &why) != SLM_OK ||
        slm_session_open(e, &so, &session, &why) != SLM_OK)
        return failed(&why);
    int32_t *ids = malloc(s->context * sizeof *ids);
    for (size_t i = 0; i < s->context; i++)
        ids[i] = (int32_t)(rnd() % s->vocab);
    if (slm_session_sync(session, ids, FULL_WINDOWS, NULL, &why) != SLM_OK)
        return failed(&why);
    uint64_t before = status_bytes("VmRSS:");
    if (slm_session_sync(session, ids, s->context, NULL, &why) != SLM_OK)
        return failed(&why);
    out[0] = status_bytes("VmRSS:") - before;
    slm_session_close(session);
    slm_engine_close(e);
    free(ids);
    return true;
}

/* *out: bytes that the plan has for keys and values. */
static bool plan_cache(const char *path, const struct shape *s, uint64_t *out) {
    slm_engine_options o = slm_engine_default();
    slm_session_options so = session_of(s);
    slm_engine *e = NULL;
    slm_plan p = { .size = sizeof p };
    slm_why why;
    o.need = o.want = 0;
    if (slm_engine_open(path, &o, &e, &why) != SLM_OK ||
        slm_engine_plan(e, &so, &p, &why) != SLM_OK)
        return failed(&why);
    slm_engine_close(e);
    out[0] = p.kv;
    out[1] = p.total;
    return true;
}

static void test_long(void **state_unused) {
    (void)state_unused;
    const struct shape *s = &shapes[4];
    char path[512];
    uint64_t peak = 0, grown[2] = { 0 }, plan[2] = { 0 }, less = 0;
    if (SANITIZED || (test_isa() != NULL && strcmp(test_isa(), "ref") == 0)) {
        print_message("# skip memory is not measured under sanitizers and with the reference "
                      "kernels\n");
        skip();
    }
    print_message("# %s\n", s->name);
    uint64_t row = (uint64_t)s->kv_heads * s->head_dim * 2 * 2; /* of a layer; two bytes each */
    uint64_t full = row * s->context, later = row * (s->context - FULL_WINDOWS);
    uint64_t windows = 5 * row * (s->window + s->chunk);
    assert_true(temp_file(path, sizeof path, "plan-long.gguf", "", 0));
    write_file(s, path);
    assert_true(in_child(plan_cache, path, s, &less, plan));
    print_message("# cache: planned %.1f MB; full layer %.1f, windows with a chunk %.1f\n",
                  (double)plan[0] / 1e6, (double)full / 1e6, (double)windows / 1e6);
    /* whole pages of the cache, and its tables */
    assert_true(plan[0] >= full + windows && plan[0] <= full + windows + windows / 2);
    assert_true(in_child(fill_long, path, s, &peak, grown));
    print_message(
        "# all: planned %.1f MB, measured %.1f MB; after %d positions: full layer %.1f MB, "
        "measured %.1f MB\n",
        (double)plan[1] / 1e6, (double)peak / 1e6, FULL_WINDOWS, (double)later / 1e6,
        (double)grown[0] / 1e6);
    assert_true((double)grown[0] < (1.0 + TOLERANCE) * (double)later);
    assert_true((double)grown[0] > (1.0 - TOLERANCE) * (double)later);
    assert_true((double)peak < (1.0 + TOLERANCE) * (double)plan[1]);
    assert_true((double)peak > (1.0 - TOLERANCE) * (double)plan[1]);
    remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_sliding),
        cmocka_unit_test(test_separate_output),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
