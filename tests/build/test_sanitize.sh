#!/bin/bash
# test_sanitize.sh - builds the test programs with AddressSanitizer and UndefinedBehaviorSanitizer
# into build-sanitize, for ./check to run them afterwards. One job: tests run on the other core.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

mapfile -t programs < <(make -s list-tests BUILD=build-sanitize)
status=0
make -k -j1 BUILD=build-sanitize SAN=address,undefined CFLAGS='-O1 -g' "${programs[@]}" \
    >"$work/log" 2>&1 || status=1
errors_of "$work/log" >"$work/errors"
result $status 'tests build with sanitizers' "$work/errors"
finish
