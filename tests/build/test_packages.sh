#!/bin/bash
# test_packages.sh - ./start and ./check fetch nothing when all is there, and exactly what is
# missing otherwise: with sudo when not root, refreshing the lists only when a first try fails.
# Stand-ins for the commands record how they were called.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

stand=$work/stand
mkdir -p "$stand"
# command_that NAME BODY: a stand-in that records its call, then does BODY
command_that() {
    printf '#!/bin/bash\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$work" "$2" >"$stand/$1"
    chmod +x "$stand/$1"
}
# install LIST: runs install_missing with the stand-ins first; output and calls are kept
install() {
    : >"$work/calls"
    (
        PATH=$stand:$PATH
        . tools/packages.sh
        install_missing "$1"
    ) >"$work/out" 2>&1
}
# expect NAME STATUS CALLS: status and the recorded calls (patterns of grep -E, one a line)
expect() {
    local status=0 line wanted=0
    [ "$got" -eq "$2" ] || status=1
    while read -r line; do
        [ -z "$line" ] || wanted=$((wanted + 1))
        grep -qE "^$line\$" "$work/calls" || [ -z "$line" ] || status=1
    done <<<"$3"
    [ "$(grep -cE '^(apt-get|sudo)' "$work/calls")" -eq "$wanted" ] || status=1
    cat "$work/out" >>"$work/calls"
    result $status "$1" "$work/calls"
}
present='
bash   command bash
root   file /
'
with_two_missing="$present
nope-a command slm-no-such-command
nope-b file /slm/no/such/file
"
run() {
    got=0
    install "$1" || got=$?
}
command_that apt-get 'exit 0'
command_that id 'echo 0'
run "$present"
expect 'nothing missing: apt-get is not asked' 0 ''
run "$with_two_missing"
expect 'root: installs exactly what is missing' 0 \
    'apt-get -qq install -y --no-install-recommends nope-a nope-b'
command_that id 'echo 1000'
# shellcheck disable=SC2016 # the stand-in expands it
command_that sudo 'exec "$@"'
run "$with_two_missing"
expect 'not root: through sudo' 0 \
    'sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install .* nope-a nope-b
apt-get -qq install .* nope-a nope-b'
command_that id 'echo 0'
rm "$stand/sudo"
command_that apt-get "[ \"\$2\" != install ] || [ -e '$work/updated' ] || exit 100
    [ \"\$2\" != update ] || touch '$work/updated'"
run "$with_two_missing"
expect 'stale lists: refreshed, then once more' 0 \
    'apt-get -qq install .*
apt-get -qq update
apt-get -qq install .*'
command_that apt-get 'exit 100'
run "$with_two_missing"
if [ "$got" -ne 0 ]; then status=0; else status=1; fi
result $status 'a package that cannot be had is an error' "$work/out"
finish
