# cli_common.sh - sourced by the scripts of this folder: the program under test in an environment of
# its own (no models, conversations or settings of the user), and checks of what it prints.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
slm=$(realpath "${SLM_BUILD:-build}")/slm
. tests/build/common.sh

unset SLM_ISA SLM_THREADS HF_HOME HF_HUB_CACHE OLLAMA_MODELS XDG_DATA_HOME XDG_CACHE_HOME NO_COLOR
reference=${SLM_REFERENCE:-../shared}
# one thread: test programs run side by side, and threads that wait for each other on a busy machine
# take long
export HOME=$work/home SLM_HOME=$work/slm TERM=xterm SLM_THREADS=1
mkdir -p "$HOME"

# run [ARGS...]: standard output to $work/out, errors to $work/err, exit status to $status.
# Standard input is empty unless the caller gives another one to run_with.
run() { run_with /dev/null "$@"; }
run_with() {
    local input=$1
    shift
    status=0
    timeout 60 "$slm" "$@" <"$input" >"$work/out" 2>"$work/err" || status=$?
}

# show: what the last run did, for a result that failed
show() { { echo "status $status"; echo "-- out"; head -c 2000 "$work/out"; echo "-- err"; head -c 2000 "$work/err"; } >"$work/show"; }

# ends NAME STATUS: the last run ended with that
ends() {
    show
    result "$([ "$status" -eq "$2" ] && echo 0 || echo 1)" "$1: exit $2" "$work/show"
}

# prints NAME TEXT: the last run's standard output is exactly that line
prints() {
    local ok=1
    printf '%s\n' "$2" | cmp -s - "$work/out" && [ "$status" -eq 0 ] && ok=0
    show
    result $ok "$1" "$work/show"
}

# says NAME PATTERN: standard error has it (extended expression)
says() {
    show
    result "$(grep -qE -- "$2" "$work/err" && echo 0 || echo 1)" "$1: says /$2/" "$work/show"
}

# silent NAME: nothing on standard error
silent() {
    show
    result "$([ ! -s "$work/err" ] && echo 0 || echo 1)" "$1: nothing on standard error" "$work/show"
}

# json NAME EXPRESSION: a Python expression over d, the JSON document on standard output, is true
json() {
    local ok=0
    python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); sys.exit(0 if eval(sys.argv[2]) else 1)' \
        "$work/out" "$2" 2>"$work/python" || ok=1
    show
    cat "$work/python" >>"$work/show"
    result $ok "$1: $2" "$work/show"
}
