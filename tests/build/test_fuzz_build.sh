#!/bin/bash
# test_fuzz_build.sh - clang builds every fuzz target, and each runs over its corpus for a moment.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

echo 'int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n) { return !p && n; }' \
    >"$work/probe.c"
if ! clang -fsanitize=fuzzer,address "$work/probe.c" -o "$work/probe" 2>/dev/null; then
    skipped 'fuzz targets' 'clang has no libFuzzer here (package libclang-rt-*-dev)'
    finish
fi
status=0
make -k -j1 fuzz >"$work/log" 2>&1 || status=1
errors_of "$work/log" >"$work/errors"
result $status 'fuzz targets build with clang' "$work/errors"
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    mkdir -p "tests/fuzz/corpus/${name#fuzz_}"
    try "$name over its corpus" "build/fuzz/$name" -runs=0 -timeout=20 \
        "tests/fuzz/corpus/${name#fuzz_}"
done
finish
