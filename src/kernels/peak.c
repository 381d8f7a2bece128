/* peak.c - running the peak loops on one thread and on all, and timing them; the portable loops. */
#include "kernels/peak.h"

#include <string.h>

#include "base/compiler.h"
#include "base/pages.h"
#include "kernels/table.h"

#define REPEAT 7
#define QUICK_REPEAT 4
#define MOST_NS UINT64_C(4000000000) /* no further repetition after this, but two in any case */
#define WORK_NS UINT64_C(2000000)    /* how long one run of multiplications takes */
#define BUFFER_LEAST ((size_t)64 << 20)
#define PULSE_BYTES ((size_t)256 << 20) /* 96 MiB read a quarter too fast beside a cache of 32 */
#define PULSE_RUNS 4

static const unsigned distances[] = { 0, 512, 1024, 2048, 4096 };
#define N_DISTANCES ARRAY_LEN(distances)
#define QUICK_DISTANCES 2

/* ---- portable loops ---- */

static uint64_t read_ref(const uint8_t *p, size_t n, unsigned streams, size_t ahead) {
    uint64_t sum[4] = { 0 }, w[8];
    size_t part = n / streams;
    (void)ahead;
    for (size_t i = 0; i < part; i += sizeof w)
        for (unsigned s = 0; s < streams; s++) {
            memcpy(w, p + s * part + i, sizeof w);
            for (size_t j = 0; j < ARRAY_LEN(w); j++)
                sum[s] += w[j];
        }
    return sum[0] + sum[1] + sum[2] + sum[3];
}

#define REF_LANES 16

static uint64_t int8_ref(uint64_t rounds) {
    volatile int8_t three = 3, two = 2; /* so that the compiler has to multiply */
    int32_t a[REF_LANES] = { 0 }, y[REF_LANES];
    for (int i = 0; i < REF_LANES; i++)
        y[i] = two;
    for (uint64_t r = 0; r < rounds; r++) {
        int32_t x = three;
        for (int i = 0; i < REF_LANES; i++)
            a[i] = (int32_t)((uint32_t)a[i] + (uint32_t)(x * y[i]));
    }
    uint32_t sum = 0;
    for (int i = 0; i < REF_LANES; i++)
        sum += (uint32_t)a[i];
    return sum;
}

static uint64_t f32_ref(uint64_t rounds) {
    volatile float half = 0.5f, quarter = 0.25f;
    float a[REF_LANES] = { 0 }, y[REF_LANES];
    for (int i = 0; i < REF_LANES; i++)
        y[i] = quarter;
    for (uint64_t r = 0; r < rounds; r++) {
        float x = half;
        for (int i = 0; i < REF_LANES; i++)
            a[i] += x * y[i];
    }
    double sum = 0.0;
    for (int i = 0; i < REF_LANES; i++)
        sum += (double)a[i];
    return (uint64_t)sum;
}

const struct peak_ops peak_ops_ref = { .read = read_ref,
                                       .int8 = int8_ref,
                                       .f32 = f32_ref,
                                       .int8_ops = 2 * REF_LANES,
                                       .f32_ops = 2 * REF_LANES };

const struct peak_ops *peak_ops_at(const struct kernels *k) {
#ifdef HAVE_X86_KERNELS
#ifdef HAVE_AMX_KERNELS
    if (k->isa == ISA_LEVEL_AMX)
        return &peak_ops_amx;
#endif
    if (k->isa == ISA_LEVEL_AVX512)
        return k->matmul == &matmul_ops_avx512bf16 ? &peak_ops_avx512bf16 : &peak_ops_avx512;
    if (k->isa == ISA_LEVEL_AVX2)
        return &peak_ops_avx2;
#endif
#ifdef HAVE_ARM_EXTENSIONS
    if (k->isa == ISA_LEVEL_NEON && k->matmul != &matmul_ops_neon)
        return &peak_ops_neon_dot;
#endif
#ifdef HAVE_ARM_KERNELS
    if (k->isa == ISA_LEVEL_NEON)
        return &peak_ops_neon;
#endif
    (void)k;
    return &peak_ops_ref;
}

const char *peak_unit_name(enum peak_unit u) {
    static const char *const names[PEAK_UNITS] = { "int8", "bf16", "f32" };
    return (unsigned)u < PEAK_UNITS ? names[u] : "unknown";
}

/* ---- one timed run ---- */

typedef uint64_t work_fn(uint64_t rounds);

struct job {
    struct pool *pool;
    bool one;      /* only member 0 works */
    work_fn *work; /* NULL: read */
    uint64_t rounds;
    const struct peak_ops *ops;
    const uint8_t *region; /* [size] */
    size_t size;
    unsigned streams;
    size_t ahead;
    uint64_t start; /* when all were there */
    _Atomic uint64_t sink;
};

/* Bytes of one thread's piece of the region. */
static size_t piece_of(const struct job *j) {
    return j->one ? j->size : j->size / pool_size(j->pool) / 1024 * 1024;
}

static void member(void *arg, unsigned index, unsigned count) {
    struct job *j = arg;
    if (j->one && index > 0)
        return;
    if (!j->one && count > 1)
        pool_barrier(j->pool, index);
    if (index == 0)
        j->start = clock_ns();
    size_t piece = piece_of(j);
    uint64_t x = j->work ? j->work(j->rounds)
                         : j->ops->read(j->region + index * piece, piece, j->streams, j->ahead);
    atomic_fetch_add(&j->sink, x);
}

static double seconds_of(struct job *j) {
    atomic_store(&j->sink, 0);
    pool_run(j->pool, member, j);
    uint64_t took = clock_ns() - j->start;
    return (double)(took > 0 ? took : 1) * 1e-9;
}

static void keep_best(double *best, double rate) {
    *best = rate > *best ? rate : *best;
}

/* ---- reading ---- */

/* Memory to walk through, in two halves of `size` bytes. */
struct region {
    void *owned;
    uint8_t *half[2]; /* whole huge pages, one after the other */
    size_t size;
    bool huge[2]; /* pages */
};

static void touch_member(void *arg, unsigned index, unsigned count) {
    struct region *g = arg;
    size_t piece = g->size / count, first = index * piece;
    for (int i = 0; i < 2; i++)
        memset(g->half[i] + first, 1, index + 1 == count ? g->size - first : piece);
}

/* The first half in huge pages where there are any, the second one too unless `mixed`. Memory belongs
 * to the part of the machine whose thread touches it first, so each thread touches its piece. */
static slm_err region_get(const struct slm_hooks *h, struct pool *pool, size_t half, bool mixed,
                          struct region *g, slm_why *why) {
    half = half / HUGE_PAGE * HUGE_PAGE;
    *g = (struct region){ .size = half, .owned = mem_alloc_aligned(h, 2 * half + HUGE_PAGE, 1) };
    if (g->owned == NULL)
        return fail_nomem(why, "bandwidth buffer", 2 * half + HUGE_PAGE);
    g->half[0] = (uint8_t *)g->owned + (size_t)(-(uintptr_t)g->owned & (HUGE_PAGE - 1));
    g->half[1] = g->half[0] + half;
    for (int i = 0; i < 2; i++)
        g->huge[i] = pages_size(g->half[i], half, !(mixed && i == 1)) && !(mixed && i == 1);
    pool_run(pool, touch_member, g);
    return SLM_OK;
}

/* Every way to read. Row of (streams, pages, distance). */
struct ways {
    struct peak_read row[2][2][N_DISTANCES];
    unsigned n_pages; /* 1: whatever the system gives */
    bool huge_given;
    unsigned n_distances;
};

static void read_once(struct job *j, uint8_t *const region[2], struct ways *w, bool quick) {
    static const unsigned streams[2] = { 1, 4 };
    for (unsigned p = 0; p < w->n_pages; p++)
        for (unsigned s = 0; s < 2; s++)
            for (unsigned d = 0; d < w->n_distances; d++) {
                struct peak_read *r = &w->row[s][p][d];
                r->streams = j->streams = streams[s];
                j->ahead = r->ahead = distances[d];
                j->region = region[p];
                r->huge = p == 0 && w->huge_given;
                j->one = false;
                keep_best(&r->all_s, (double)(piece_of(j) * pool_size(j->pool)) / seconds_of(j));
                j->one = true;
                if (!quick)
                    keep_best(&r->one_s, (double)piece_of(j) / seconds_of(j));
            }
}

/* Of each pair of streams and pages the plain way and the best distance. */
static void choose_reads(const struct ways *w, struct peak *out) {
    for (unsigned p = 0; p < w->n_pages; p++)
        for (unsigned s = 0; s < 2; s++) {
            const struct peak_read *row = w->row[s][p];
            unsigned best = 1;
            for (unsigned d = 2; d < w->n_distances; d++)
                best = row[d].all_s > row[best].all_s ? d : best;
            out->reads[out->n_reads++] = row[0];
            out->reads[out->n_reads++] = row[best];
        }
    for (unsigned i = 0; i < out->n_reads; i++)
        keep_best(&out->read_bytes_s, out->reads[i].all_s);
}

/* quick: the whole buffer in huge pages; else one half of it in huge, one in small ones. */
static slm_err measure_reads(const struct kernels *k, const struct slm_hooks *h, struct pool *pool,
                             size_t buffer_bytes, bool quick, struct peak *out, slm_why *why) {
    struct job j = { .pool = pool, .ops = peak_ops_at(k) };
    struct region g;
    size_t bytes = buffer_bytes < BUFFER_LEAST ? BUFFER_LEAST : buffer_bytes;
    TRY(region_get(h, pool, bytes / 2, !quick, &g, why));
    struct ways w = { .huge_given = g.huge[0],
                      .n_pages = g.huge[0] && !quick ? 2 : 1,
                      .n_distances = quick ? QUICK_DISTANCES : N_DISTANCES };
    j.size = w.n_pages == 2 ? g.size : 2 * g.size;
    uint64_t begin = clock_ns();
    for (int i = 0; i < (quick ? QUICK_REPEAT : REPEAT); i++)
        if (i < 2 || clock_ns() - begin < MOST_NS)
            read_once(&j, g.half, &w, quick);
    mem_free_aligned(h, g.owned);
    choose_reads(&w, out);
    return SLM_OK;
}

/* ---- multiplying ---- */

static work_fn *unit_work(const struct peak_ops *ops, enum peak_unit u, uint32_t *per_round) {
    *per_round = u == PEAK_INT8 ? ops->int8_ops : u == PEAK_BF16 ? ops->bf16_ops : ops->f32_ops;
    return u == PEAK_INT8 ? ops->int8 : u == PEAK_BF16 ? ops->bf16 : ops->f32;
}

/* Rounds that take about WORK_NS on one thread. */
static uint64_t rounds_for(struct job *j) {
    j->one = true;
    for (j->rounds = 1024;; j->rounds *= 2) {
        double s = seconds_of(j);
        if (s * 1e9 > (double)WORK_NS / 4 || j->rounds > UINT64_C(1) << 40)
            return (uint64_t)((double)j->rounds * (double)WORK_NS / (s * 1e9)) + 1;
    }
}

static void multiply_once(struct job *j, struct peak_multiply *m, uint64_t rounds, bool quick) {
    uint32_t per_round;
    j->work = unit_work(peak_ops_at(kernels_at(m->isa)), m->unit, &per_round);
    j->rounds = rounds;
    double ops = (double)rounds * per_round;
    j->one = false;
    keep_best(&m->all_s, ops * pool_size(j->pool) / seconds_of(j));
    j->one = true;
    if (!quick)
        keep_best(&m->one_s, ops / seconds_of(j));
}

static void measure_multiplies(const struct kernels *k, struct pool *pool, bool quick,
                               struct peak *out) {
    struct job j = { .pool = pool };
    uint64_t rounds[PEAK_MULTIPLIES];
    uint32_t per_round;
    for (int level = 0; level <= (int)k->isa; level++)
        for (int u = 0; u < PEAK_UNITS; u++) {
            const struct kernels *step = kernels_at((enum isa)level);
            if (step == NULL ||
                (j.work = unit_work(peak_ops_at(step), (enum peak_unit)u, &per_round)) == NULL)
                continue;
            rounds[out->n_multiplies] = rounds_for(&j);
            out->multiplies[out->n_multiplies++] =
                (struct peak_multiply){ (enum isa)level, (enum peak_unit)u, 0, 0 };
        }
    for (int i = 0; i < (quick ? QUICK_REPEAT : REPEAT); i++)
        for (unsigned m = 0; m < out->n_multiplies; m++)
            multiply_once(&j, &out->multiplies[m], rounds[m], quick);
}

static double multiply_of(const struct peak *p, enum isa isa, enum peak_unit unit) {
    for (unsigned i = 0; i < p->n_multiplies; i++)
        if (p->multiplies[i].isa == isa && p->multiplies[i].unit == unit)
            return p->multiplies[i].all_s;
    return 0;
}

/* ---- both ---- */

slm_err peak_measure(const struct kernels *k, const struct slm_hooks *h, struct pool *pool,
                     size_t buffer_bytes, bool quick, struct peak *out, slm_why *why) {
    struct peak p = { 0 };
    TRY(measure_reads(k, h, pool, buffer_bytes, quick, &p, why));
    measure_multiplies(k, pool, quick, &p);
    p.int8_ops_s = multiply_of(&p, k->isa, PEAK_INT8);
    p.f32_ops_s = multiply_of(&p, k->isa, PEAK_F32);
    p.bf16_ops_s = multiply_of(&p, k->isa, PEAK_BF16);
    if (p.bf16_ops_s <= 0)
        p.bf16_ops_s = p.f32_ops_s;
    *out = p;
    return SLM_OK;
}

slm_err peak_pulse(const struct kernels *k, const struct slm_hooks *h, struct pool *pool,
                   struct peak *out, slm_why *why) {
    struct job j = { .pool = pool, .ops = peak_ops_at(k), .streams = 4 };
    struct region g;
    uint32_t per_round;
    double seconds = 0;
    TRY(region_get(h, pool, PULSE_BYTES / 2, false, &g, why));
    j.region = g.half[0];
    j.size = PULSE_BYTES;
    for (int i = 0; i < PULSE_RUNS; i++)
        seconds += seconds_of(&j);
    mem_free_aligned(h, g.owned);
    *out = (struct peak){ .read_bytes_s =
                              (double)(piece_of(&j) * pool_size(pool)) * PULSE_RUNS / seconds };
    j.work = unit_work(j.ops, PEAK_INT8, &per_round);
    j.rounds = rounds_for(&j);
    j.one = false;
    seconds = 0;
    for (int i = 0; i < PULSE_RUNS; i++)
        seconds += seconds_of(&j);
    out->int8_ops_s = (double)j.rounds * per_round * pool_size(pool) * PULSE_RUNS / seconds;
    return SLM_OK;
}
