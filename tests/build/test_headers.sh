#!/bin/bash
# test_headers.sh - every header compiles alone: public ones in C and in C++, inner ones in C, and
# each has an include guard.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/build/common.sh

CC=${CC:-cc}
CXX=${CXX:-c++}
warn=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -Iinclude)
for h in include/*.h; do
    # twice, for the guard; -Wno-unused for headers with static inline functions
    printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' \
        "${h#include/}" "${h#include/}" | tee "$work/t.c" >"$work/t.cc"
    try "$h alone in C" "$CC" -std=c11 "${warn[@]}" -fsyntax-only "$work/t.c"
    try "$h alone in C99" "$CC" -std=c99 "${warn[@]}" -fsyntax-only "$work/t.c"
    try "$h alone in C++" "$CXX" -std=c++11 "${warn[@]}" -fsyntax-only "$work/t.cc"
done
for h in $(find src models -name '*.h' | sort); do
    printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' \
        "${h#src/}" "${h#src/}" >"$work/t.c"
    try "$h alone" "$CC" -std=c11 -D_GNU_SOURCE "${warn[@]}" -Isrc -I. -fsyntax-only "$work/t.c"
done
finish
