#!/bin/bash
# test_cmake.sh - the CMake build with clang: the second compiler finds no warning either, and the
# sources are the same as the Makefile's.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

out=build/cmake
rm -rf "$out"
try 'cmake configures' cmake -S . -B "$out" -DCMAKE_C_COMPILER=clang -DCMAKE_ASM_COMPILER=clang \
    -DCMAKE_BUILD_TYPE=Release
status=0
cmake --build "$out" -j1 >"$work/log" 2>&1 || status=1
errors_of "$work/log" >"$work/errors"
result $status 'cmake builds with clang' "$work/errors"
grep -A2 'warning:' "$work/log" >"$work/warn" || true
empty 'clang has no warning' "$work/warn"
for file in libslm.a libslm.so libslm.so.0 libslm.so.0.1.0; do
    try "cmake made $file" test -e "$out/$file"
done
ar t "$out/libslm.a" | sed 's/\.c\.o$/.o/' | sort >"$work/cmake"
ar t build/libslm.a | sort >"$work/make"
try 'both builds have the same objects' diff "$work/make" "$work/cmake"
finish
