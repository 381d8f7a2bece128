/* check_rows.c - row kernels: accuracy of the reference, every instruction set against it.
 *
 * usage: check_rows [--seed N]     the checks; prints its seed
 *        check_rows --bench        time per element on every instruction set
 * The reference is held against float64; the others against the reference, bit for bit, on odd
 * sizes and addresses, zeros, extremes, denormals, infinities and NaN, in place and not, with guard
 * bytes around the outputs. */
#include "checking.h"

#include "kernels/ref/vmath.h"

/* ---- accuracy of the reference ---- */

static double ulps(float got, double want) {
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, e - 24);
}

static void test_exp_accuracy(void **state) {
    (void)state;
    double worst = 0;
    float at = 0;
    for (uint32_t step = 0; step < 2; step++) {
        float end = step ? 88.72f : 87.0f;
        for (uint32_t bits = bits_of_float(1e-9f); float_of_bits(bits) < end; bits += 1009) {
            float x = step ? float_of_bits(bits) : -float_of_bits(bits);
            double u = ulps(exp_one(x), exp((double)x));
            if (u > worst) {
                worst = u;
                at = x;
            }
        }
    }
    print_message("# exp: %.3f ulp at %a\n", worst, (double)at);
    assert_true(worst < 1.0);
    assert_true(exp_one(0.0f) == 1.0f && exp_one(-0.0f) == 1.0f);
    assert_true(exp_one(-87.1f) == 0.0f && exp_one(-INFINITY) == 0.0f && exp_one(-3e38f) == 0.0f);
    assert_true(isinf(exp_one(89.0f)) && isinf(exp_one(INFINITY)) && isnan(exp_one(NAN)));
}

/* |error| <= relative * |value| + absolute, over both signs and 14 decades */
static void hold(float (*fn)(float), double (*exact)(double), double relative, double absolute,
                 const char *what) {
    double worst = 0, worst_absolute = 0;
    for (uint32_t bits = bits_of_float(1e-12f); float_of_bits(bits) < 200.0f; bits += 701) {
        for (int sign = -1; sign <= 1; sign += 2) {
            float x = (float)sign * float_of_bits(bits);
            double want = exact((double)x), miss = fabs((double)fn(x) - want);
            double rel = (miss - absolute) / fabs(want);
            worst = miss > absolute && rel > worst ? rel : worst;
            worst_absolute = miss > worst_absolute && fabs((double)x) < 10 ? miss : worst_absolute;
        }
    }
    print_message("# %s: relative %.2e beyond %.0e, absolute %.2e within +-10\n", what, worst,
                  absolute, worst_absolute);
    assert_true(worst <= relative);
}

static double silu_exact(double x) {
    return x / (1 + exp(-x));
}
static double gelu_exact(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
/* the same without cancellation, to see the relative error of small results */
static double gelu_stable(double x) {
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static void test_activation_accuracy(void **state) {
    (void)state;
    hold(silu_one, silu_exact, 3e-7, 1e-35, "silu");
    hold(gelu_one, gelu_stable, 1e-6, 1e-9, "gelu");
    hold(gelu_one, gelu_stable, 1e-5, 1e-35, "gelu, far tail"); /* results down to 1e-34 */
    hold(gelu_one, gelu_exact, 1e-6, 1e-9, "gelu against tanh");
    assert_true(silu_one(0.0f) == 0.0f && gelu_one(0.0f) == 0.0f);
    assert_true(silu_one(200.0f) == 200.0f && gelu_one(200.0f) == 200.0f);
    assert_true(silu_one(-200.0f) == 0.0f && gelu_one(-200.0f) == 0.0f);
    assert_true(isnan(silu_one(NAN)) && isnan(gelu_one(NAN)));
}

static void test_norm_accuracy(void **state) {
    (void)state;
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    static float x[5000], w[5000], y[5000];
    for (unsigned round = 0; round < 20; round++) {
        size_t n = 1 + below(5000);
        double sum = 0;
        fill(x, n, NORMAL);
        fill(w, n, NORMAL);
        x[below((uint32_t)n)] = 3000.0f; /* the outliers that hidden states have */
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        double factor = 1 / sqrt(sum / (double)n + (double)1e-6f);
        for (int plus = 0; plus < 2; plus++) {
            rmsnorm(ref, x, w, plus, 1e-6f, n, y);
            for (size_t i = 0; i < n; i++) {
                double want = (double)x[i] * factor * (plus ? (double)(1.0f + w[i]) : (double)w[i]);
                assert_true(fabs((double)y[i] - want) <= 2e-7 * fabs(want));
            }
        }
    }
}

static void test_rope_accuracy(void **state) {
    (void)state;
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        float x[48], y[48], c[20], s[20];
        fill(x, 48, NORMAL);
        memcpy(y, x, sizeof x);
        for (size_t i = 0; i < 20; i++) {
            c[i] = cosf((float)i * 0.7f);
            s[i] = sinf((float)i * 0.7f);
        }
        rope_apply(ref, y, c, s, 20, interleaved);
        for (size_t i = 0; i < 20; i++) {
            size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + 20;
            assert_true(fabs((double)x[a] * (double)c[i] - (double)x[b] * (double)s[i] -
                             (double)y[a]) < 1e-5);
            assert_true(fabs((double)x[b] * (double)c[i] + (double)x[a] * (double)s[i] -
                             (double)y[b]) < 1e-5);
        }
        same_floats(x + 40, y + 40, 8,
                    "rope beyond its pairs"); /* partial rotary: the rest stays */
    }
}

static void test_argmax(void **state) {
    (void)state;
    for (int level = 0; level < ISA_LEVEL_COUNT; level++) {
        const struct kernels *k = kernels_at((enum isa)level);
        bool finite;
        float x[70];
        if (!k)
            continue;
        for (size_t n = 1; n <= 70; n++) {
            for (size_t i = 0; i < n; i++)
                x[i] = -5.0f - (float)i;
            assert_int_equal(argmax(k, x, n, &finite), 0); /* all negative */
            for (size_t at = 0; at < n; at++) {
                x[at] = 1.0f;
                x[n - 1] = 1.0f; /* equal ones: the first */
                assert_int_equal(argmax(k, x, n, &finite), at);
                assert_true(finite);
                x[at] = NAN;
                assert_int_equal(argmax(k, x, n, &finite), at == n - 1 ? 0 : n - 1);
                assert_false(finite);
                x[at] = INFINITY;
                assert_int_equal(argmax(k, x, n, &finite), at);
                assert_false(finite);
                x[at] = -5.0f - (float)at;
                x[n - 1] = -5.0f - (float)(n - 1);
            }
            for (size_t i = 0; i < n; i++)
                x[i] = -INFINITY;
            assert_int_equal(argmax(k, x, n, &finite), 0);
            assert_false(finite);
        }
    }
}

/* ---- instruction sets against the reference ---- */

/* Runs `make` for sizes 0..70 and some larger ones, all flavours, changing addresses. */
typedef void (*row_case)(const struct kernels *k, const float *a, const float *b, size_t n,
                         float *out, unsigned kind);

static void compare_rows(const struct kernels *ref, const struct kernels *k, row_case run,
                         unsigned kinds, const char *what) {
    for (size_t round = 0; round < 90; round++) {
        size_t n = round < 71 ? round : 100 + below(3000);
        for (unsigned kind = 0; kind < kinds; kind++) {
            for (unsigned f = 0; f < FLAVOURS; f++) {
                struct guarded a = guarded_new(4 * n, 4 * below(16)),
                               b = guarded_new(4 * n, 4 * below(16));
                struct guarded want = guarded_new(4 * n, 0),
                               got = guarded_new(4 * n, 4 * below(16));
                fill((float *)(void *)a.data, n, (enum flavour)f);
                fill((float *)(void *)b.data, n, below(2) ? NORMAL : (enum flavour)f);
                run(ref, (float *)(void *)a.data, (float *)(void *)b.data, n,
                    (float *)(void *)want.data, kind);
                run(k, (float *)(void *)a.data, (float *)(void *)b.data, n,
                    (float *)(void *)got.data, kind);
                same_floats((float *)(void *)want.data, (float *)(void *)got.data, n, what);
                guarded_check(&got, what);
                guarded_check(&a, what);
                guarded_free(&a);
                guarded_free(&b);
                guarded_free(&want);
                guarded_free(&got);
            }
        }
    }
}

static void run_norm(const struct kernels *k, const float *a, const float *b, size_t n, float *out,
                     unsigned kind) {
    if (n == 0)
        return;
    if (kind & 2) { /* in place */
        memcpy(out, a, 4 * n);
        a = out;
    }
    rmsnorm(k, a, b, kind & 1, 1e-6f, n, out);
}
static void run_add(const struct kernels *k, const float *a, const float *b, size_t n, float *out,
                    unsigned kind) {
    (void)kind;
    memcpy(out, a, 4 * n);
    add_rows(k, out, b, n);
}
static void run_scale(const struct kernels *k, const float *a, const float *b, size_t n, float *out,
                      unsigned kind) {
    (void)kind;
    memcpy(out, a, 4 * n);
    scale_row(k, out, n ? b[0] : 1.0f, n);
}
static void run_silu(const struct kernels *k, const float *a, const float *b, size_t n, float *out,
                     unsigned kind) {
    if (kind) {
        memcpy(out, a, 4 * n);
        a = out;
    }
    silu_mul(k, a, b, n, out);
}
static void run_gelu(const struct kernels *k, const float *a, const float *b, size_t n, float *out,
                     unsigned kind) {
    if (kind) {
        memcpy(out, a, 4 * n);
        a = out;
    }
    gelu_mul(k, a, b, n, out);
}
static void run_rope(const struct kernels *k, const float *a, const float *b, size_t n, float *out,
                     unsigned kind) {
    size_t pairs = (kind & 2) ? n / 2 : n / 3; /* all of the head, or a part */
    memcpy(out, a, 4 * n);
    rope_apply(k, out, b, b + pairs, pairs, kind & 1);
}
/* index and finiteness as two numbers in out */
static void run_argmax(const struct kernels *k, const float *a, const float *b, size_t n,
                       float *out, unsigned kind) {
    bool finite;
    (void)b;
    (void)kind;
    if (n < 2)
        return;
    memset(out, 0, 4 * n);
    out[0] = (float)argmax(k, a, n, &finite);
    out[1] = finite;
}

static void compare_all(const struct kernels *ref, const struct kernels *k) {
    compare_rows(ref, k, run_norm, 4, "rmsnorm");
    compare_rows(ref, k, run_add, 1, "add_rows");
    compare_rows(ref, k, run_scale, 1, "scale_row");
    compare_rows(ref, k, run_silu, 2, "silu_mul");
    compare_rows(ref, k, run_gelu, 2, "gelu_mul");
    compare_rows(ref, k, run_rope, 4, "rope_apply");
    compare_rows(ref, k, run_argmax, 1, "argmax");
}

/* The functions with polynomials on a dense sample of all floats. */
static void compare_dense(const struct kernels *ref, const struct kernels *k) {
    enum { N = 4096 };
    static float x[N], one[N], want[N], got[N];
    for (size_t i = 0; i < N; i++)
        one[i] = 1.0f;
    uint32_t bits = below(4093);
    for (unsigned round = 0; round < 256; round++) {
        for (size_t i = 0; i < N; i++, bits += 4093)
            x[i] = float_of_bits(bits);
        silu_mul(ref, x, one, N, want);
        silu_mul(k, x, one, N, got);
        same_floats(want, got, N, "silu_mul");
        gelu_mul(ref, x, one, N, want);
        gelu_mul(k, x, one, N, got);
        same_floats(want, got, N, "gelu_mul");
    }
}

static void test_isas(void **state) {
    (void)state;
    each_isa(compare_all);
}
static void test_isas_dense(void **state) {
    (void)state;
    each_isa(compare_dense);
}

/* ---- bench ---- */

static int bench(void) {
    enum { N = 2560 };
    static float x[N], w[N], y[N];
    fill(x, N, NORMAL);
    fill(w, N, NORMAL);
    printf("%-8s %10s %10s %10s %10s %10s %10s %10s   ns per 1000 elements of %d\n", "isa",
           "rmsnorm", "add", "silu", "gelu", "rope", "rope 2i", "argmax", N);
    for (int level = 0; level < ISA_LEVEL_COUNT; level++) {
        const struct kernels *k = kernels_at((enum isa)level);
        double t[7];
        bool finite;
        if (!k)
            continue;
        BENCH(t[0], rmsnorm(k, x, w, false, 1e-6f, N, y));
        BENCH(t[1], add_rows(k, y, w, N));
        BENCH(t[2], silu_mul(k, x, w, N, y));
        BENCH(t[3], gelu_mul(k, x, w, N, y));
        memset(w, 0, sizeof w);
        BENCH(t[4], rope_apply(k, y, w, w, N / 2, false));
        BENCH(t[5], rope_apply(k, y, w, w, N / 2, true));
        BENCH(t[6], argmax(k, x, N, &finite));
        printf("%-8s", isa_name((enum isa)level));
        for (unsigned i = 0; i < 7; i++)
            printf(" %10.1f", t[i] * 1e12 / N);
        printf("\n");
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_accuracy),  cmocka_unit_test(test_activation_accuracy),
        cmocka_unit_test(test_norm_accuracy), cmocka_unit_test(test_rope_accuracy),
        cmocka_unit_test(test_argmax),        cmocka_unit_test(test_isas),
        cmocka_unit_test(test_isas_dense),
    };
    check_start(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
