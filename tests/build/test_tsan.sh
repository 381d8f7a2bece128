#!/bin/bash
# test_tsan.sh - builds the test programs with ThreadSanitizer
# into build-tsan, for ./check to run them afterwards. One job: tests run on the other core.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

mapfile -t programs < <(make -s list-tests BUILD=build-tsan)
status=0
make -k -j1 BUILD=build-tsan SAN=thread CFLAGS='-O1 -g' "${programs[@]}" \
    >"$work/log" 2>&1 || status=1
errors_of "$work/log" >"$work/errors"
result $status 'tests build with ThreadSanitizer' "$work/errors"
finish
