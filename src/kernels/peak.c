/* peak.c - running the peak loops on all threads and timing them; the portable loops. */
#include "kernels/peak.h"

#include <string.h>

#include "kernels/table.h"

#define REPEAT 7
#define ROUNDS ((uint64_t)1 << 19)

static uint64_t read_ref(const uint8_t *p, size_t n) {
    uint64_t sum[4] = {0}, w;
    size_t quarter = n / 4;
    for (size_t i = 0; i < quarter; i += 8)
        for (size_t s = 0; s < 4; s++) {
            memcpy(&w, p + s * quarter + i, sizeof w);
            sum[s] += w;
        }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

static uint64_t int8_ref(uint64_t rounds) {
    int32_t a[16] = {0};
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < 16; i++)
            a[i] = (int32_t)((uint32_t)a[i] + (uint32_t)((int32_t)(r & 127) * (i + 1)));
    uint64_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += (uint64_t)(uint32_t)a[i];
    return sum;
}

static uint64_t f32_ref(uint64_t rounds) {
    float a[16] = {0}, x = 1.0f;
    for (uint64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 16; i++)
            a[i] = a[i] * 0.5f + x;
        x = 1.5f - x;
    }
    float sum = 0.0f;
    for (int i = 0; i < 16; i++)
        sum += a[i];
    return (uint64_t)sum;
}

const struct peak_ops peak_ops_ref = {
    .read = read_ref, .int8 = int8_ref, .f32 = f32_ref, .int8_ops = 32, .f32_ops = 32};

const struct peak_ops *peak_ops_at(const struct kernels *k) {
#ifdef HAVE_X86_KERNELS
    if (k->isa == ISA_LEVEL_AVX512)
        return k->matmul == &matmul_ops_avx512bf16 ? &peak_ops_avx512bf16 : &peak_ops_avx512;
    if (k->isa == ISA_LEVEL_AVX2)
        return &peak_ops_avx2;
#endif
    (void)k;
    return &peak_ops_ref;
}

struct run {
    const struct peak_ops *ops;
    uint64_t (*work)(uint64_t rounds); /* NULL: read */
    const uint8_t *buffer;
    size_t piece;                      /* bytes per thread */
    _Atomic uint64_t sink;
};

static void member(void *arg, unsigned index, unsigned count) {
    struct run *r = arg;
    (void)count;
    uint64_t x = r->work != NULL ? r->work(ROUNDS) : r->ops->read(r->buffer + index * r->piece, r->piece);
    atomic_fetch_add(&r->sink, x);
}

/* Shortest time of one run in seconds. */
static double best_time(struct pool *pool, struct run *r) {
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < REPEAT; i++) {
        uint64_t start = clock_ns();
        pool_run(pool, member, r);
        uint64_t took = clock_ns() - start;
        best = took < best ? took : best;
    }
    return best > 0 ? (double)best * 1e-9 : 1e-9;
}

static double work_rate(struct pool *pool, const struct peak_ops *ops, uint64_t (*work)(uint64_t), uint32_t ops_per_round) {
    struct run r = {.ops = ops, .work = work};
    atomic_init(&r.sink, 0);
    return (double)ROUNDS * ops_per_round * pool_size(pool) / best_time(pool, &r);
}

slm_err peak_measure(const struct kernels *k, const struct slm_hooks *h, struct pool *pool, size_t buffer_bytes,
                     struct peak *out, slm_why *why) {
    const struct peak_ops *ops = peak_ops_at(k);
    unsigned n = pool_size(pool);
    struct run r = {.ops = ops, .piece = buffer_bytes / n / 1024 * 1024};
    uint8_t *buffer = mem_alloc_aligned(h, r.piece, n);
    if (buffer == NULL)
        return fail_nomem(why, "bandwidth buffer", buffer_bytes);
    memset(buffer, 1, r.piece * n);
    atomic_init(&r.sink, 0);
    r.buffer = buffer;
    out->read_bytes_s = (double)(r.piece * n) / best_time(pool, &r);
    mem_free_aligned(h, buffer);
    out->int8_ops_s = work_rate(pool, ops, ops->int8, ops->int8_ops);
    out->f32_ops_s = work_rate(pool, ops, ops->f32, ops->f32_ops);
    out->bf16_ops_s = ops->bf16 != NULL ? work_rate(pool, ops, ops->bf16, ops->bf16_ops) : out->f32_ops_s;
    return SLM_OK;
}
