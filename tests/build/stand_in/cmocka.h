/* cmocka.h - a stand-in for the library of that name, for kernel checks that are built for another
 * processor (test_portable.sh): that processor's cmocka is seldom installed. Only what
 * tests/kernels uses; a failure leaves the test by longjmp, results are TAP on stdout. */
#ifndef SLM_TESTS_STAND_IN_CMOCKA_H
#define SLM_TESTS_STAND_IN_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};
enum { STAND_IN_FAILED = 1, STAND_IN_SKIPPED };
static jmp_buf stand_in_out; /* of the test that runs */

__attribute__((noreturn, format(printf, 3, 4))) static inline void
stand_in_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    printf("# %s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    longjmp(stand_in_out, STAND_IN_FAILED);
}

#define cmocka_unit_test(f)                                                                        \
    { #f, f }
#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...) stand_in_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip() longjmp(stand_in_out, STAND_IN_SKIPPED)
#define assert_true(x) ((x) ? (void)0 : fail_msg("not true: %s", #x))
#define assert_false(x) ((x) ? fail_msg("not false: %s", #x) : (void)0)
#define assert_non_null(p) ((p) != NULL ? (void)0 : fail_msg("NULL: %s", #p))
#define assert_int_equal(a, b)                                                                     \
    ((uintmax_t)(a) == (uintmax_t)(b)                                                              \
         ? (void)0                                                                                 \
         : fail_msg("%s is %jd, not %jd", #a, (intmax_t)(a), (intmax_t)(b)))
#define assert_memory_equal(a, b, n)                                                               \
    (memcmp(a, b, n) == 0 ? (void)0 : fail_msg("%s and %s differ", #a, #b))

static inline int stand_in_run(const struct CMUnitTest *tests, size_t n) {
    volatile int failed = 0;
    for (volatile size_t i = 0; i < n; i++) {
        int how = setjmp(stand_in_out);
        if (how == 0)
            tests[i].run(&(void *){ NULL });
        failed += how == STAND_IN_FAILED;
        printf("%sok %zu - %s%s\n", how == STAND_IN_FAILED ? "not " : "", i + 1, tests[i].name,
               how == STAND_IN_SKIPPED ? " # SKIP" : "");
        fflush(stdout);
    }
    printf("1..%zu\n", n);
    return failed;
}
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    ((void)(setup), (void)(teardown), stand_in_run(tests, sizeof(tests) / sizeof *(tests)))

#endif
