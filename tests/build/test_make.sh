#!/bin/bash
# test_make.sh - the reference build of everything, without a warning.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

status=0
make -k -j2 all >"$work/log" 2>&1 || status=1
errors_of "$work/log" >"$work/errors"
result $status 'library and program build' "$work/errors"
status=0
make -k -j2 tests >"$work/log" 2>&1 || status=1
errors_of "$work/log" >"$work/errors"
result $status 'tests build' "$work/errors"

make all >"$work/again" 2>&1 || true
sed -i '/^make/d' "$work/again"
empty 'a second make has nothing to do' "$work/again"

find build/obj/src build/obj/models -name '*.log' -exec grep -h 'warning:' {} + >"$work/warn" || true
empty 'library and program build without warnings' "$work/warn"
find build/obj/tests -name '*.log' -exec grep -h 'warning:' {} + >"$work/warn" || true
empty 'tests build without warnings' "$work/warn"
make help >"$work/help" 2>&1 || true
grep -q 'install' "$work/help" || echo 'make help does not name install' >"$work/bad"
touch "$work/bad"
empty 'make help lists the targets' "$work/bad"
finish
