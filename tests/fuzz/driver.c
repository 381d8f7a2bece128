/* driver.c - runs a fuzz target over the files of its corpus, as a test.
 *
 * The name of the program tells the corpus: build/tests/fuzz_json reads tests/fuzz/corpus/json.
 * Arguments, when given, are files to run instead. Every input is also run cut at a few places:
 * truncation is what breaks readers most often. Output: TAP. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#define CUTS 8 /* truncated copies of each input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The target gets exactly `size` bytes of its own, so that a sanitizer sees an overrun. */
static void run_bytes(const char *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL)
        return;
    if (size > 0)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int run_file(const char *path) {
    size_t n;
    char *data = slurp(path, &n);
    if (data == NULL) {
        printf("# cannot read %s\n", path);
        return 1;
    }
    run_bytes(data, n);
    for (size_t i = 1; i <= CUTS; i++)
        run_bytes(data, n / (CUTS + 1) * i);
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    int failed = 0, files = 0;
    const char *name = strrchr(argv[0], '/');
    name = name != NULL ? name + 1 : argv[0];
    printf("1..1\n");
    fflush(stdout);
    run_bytes("", 0);
    for (int i = 1; i < argc; i++, files++)
        failed += run_file(argv[i]);
    if (argc == 1) {
        char rel[256], dir[1024], path[2048];
        snprintf(rel, sizeof rel, "fuzz/corpus/%s",
                 strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name);
        DIR *d = data_path(dir, sizeof dir, rel) != NULL ? opendir(dir) : NULL;
        for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            failed += run_file(path);
            files++;
        }
        if (d != NULL)
            closedir(d);
        if (files == 0)
            failed++; /* a target without a corpus tests nothing */
    }
    printf("%sok 1 - %s: %d corpus files\n", failed ? "not " : "", name, files);
    return failed != 0;
}
