# common.sh - sourced by the scripts of this folder: counts results and prints TAP.
# shellcheck shell=bash
n=0
rc=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# result STATUS NAME [FILE]: 0 is ok; else the file's lines follow as comments
result() {
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
        return
    fi
    echo "not ok $n - $2"
    [ $# -lt 3 ] || head -n 40 "$3" | sed 's/^/# /'
    rc=1
}

# try NAME COMMAND...: one result from the command's exit status
try() {
    local name=$1 status=0
    shift
    "$@" >"$work/try.log" 2>&1 || status=1
    result $status "$name" "$work/try.log"
}

# skipped NAME REASON
skipped() {
    n=$((n + 1))
    echo "# skip $2"
    echo "ok $n - $1 # SKIP $2"
}

# empty NAME FILE: ok when the file has no line
empty() {
    local status=0
    [ ! -s "$2" ] || status=1
    result $status "$1" "$2"
}

finish() {
    echo "1..$n"
    exit $rc
}

# build_log FILE: the part of a build's output worth showing
errors_of() {
    grep -E -A3 'error:|undefined reference|multiple definition|\*\*\*' "$1" || tail -n 20 "$1"
}

# The program built elsewhere must not leak into the parts under test.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS CPPFLAGS BUILD SAN
