/* cmd_bench_batch.c - several sequences that decode together. */
#include "cli/cmd_bench.h"

int bench_batch(struct bench *b, uint32_t depth, uint32_t batch) {
    if (!b->listed)
        return report(b->c, EXIT_COULD_NOT, "E_UNSUPPORTED", "-b 1",
                      "-b %u: this version decodes one sequence at a time", batch);
    bench_leave_out(b, "decode", depth, batch, "this version decodes one sequence at a time");
    return EXIT_DONE;
}
