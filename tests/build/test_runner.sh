#!/bin/bash
# test_runner.sh - tools/run_tests.py counts right, above all when a program does not behave.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

# program NAME BODY: a test program for the runner
program() {
    printf '#!/bin/bash\n%s\n' "$2" >"$work/$1"
    chmod +x "$work/$1"
}
# counts NAME STATUS LAST CASE...: exit status and last line of the runner over these cases
counts() {
    local name=$1 status=$2 last=$3 got=0 verdict=0
    shift 3
    python3 tools/run_tests.py -t 1 --logs "$work/logs" "$@" >"$work/out" 2>&1 || got=$?
    [ $got -eq "$status" ] || verdict=1
    [ "$(tail -n 1 "$work/out")" = "$last" ] || verdict=1
    result $verdict "$name" "$work/out"
}
program good 'printf "1..2\nok 1 - a\nok 2 - b\n"'
program bad 'printf "1..2\nok 1 - a\nnot ok 2 - b\n# why\n"; exit 1'
program dies 'printf "1..2\nok 1 - a\n"; kill -SEGV $$'
program short 'printf "1..3\nok 1 - a\n"'
program silent 'exit 0'
program leaks 'printf "1..1\nok 1 - a\n"; exit 23'
program slow 'printf "1..1\n"; sleep 30; echo "ok 1"'
program skips 'printf "1..3\nok 1 - a\n# skip no model\nnot ok 2 # SKIP b\nok 3 - c # SKIP no card\n"'
# shellcheck disable=SC2016 # the program expands it
program env 'echo 1..1; [ "$COLOUR" = "dark red" ] && echo ok 1 || echo not ok 1'
program two_groups 'printf "1..1\nok 1 - a\n1..2\nok 1 - b\nok 2 - c\n"'
counts 'all good' 0 '2 passed, 0 failed' "$work/good"
counts 'a failed test' 1 '3 passed, 1 failed' "$work/good" "$work/bad"
counts 'a program that dies' 1 '1 passed, 1 failed' "$work/dies"
counts 'results that are missing' 1 '1 passed, 1 failed' "$work/short"
counts 'a program that says nothing' 1 '0 passed, 1 failed' "$work/silent"
counts 'a bad exit status after good results' 1 '1 passed, 1 failed' "$work/leaks"
counts 'a program that hangs' 1 '0 passed, 1 failed' "$work/slow"
counts 'a program that was not built' 1 '0 passed, 1 failed' "$work/none"
counts 'skipped tests' 0 '1 passed, 0 failed, 2 skipped' "$work/skips"
try 'reasons of skipped tests are shown' grep -q 'no model' "$work/out"
try 'both kinds of reason' grep -q 'no card' "$work/out"
counts 'environment of a case' 0 '1 passed, 0 failed' "COLOUR='dark red' $work/env"
counts 'several groups in a program' 0 '3 passed, 0 failed' "$work/two_groups"
counts 'phases' 0 '4 passed, 0 failed' "$work/good" +++ "$work/good"
counts 'nothing at all is no success' 1 '0 passed, 0 failed' +++
finish
