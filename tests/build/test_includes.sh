#!/bin/bash
# test_includes.sh - the direction of includes in this tree, and that the check finds offences.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/build/common.sh

status=0
python3 tools/check_includes.py >"$work/tree.tap" || status=1
grep -v '^ok\|^1\.\.' "$work/tree.tap" >"$work/bad" || true
result $status 'every include of the tree goes down' "$work/bad"

# offence FILE INCLUDED: a tree in which FILE includes INCLUDED must be refused
offence() {
    local root=$work/offence status=0
    rm -rf "$root"
    mkdir -p "$root/$(dirname "$1")" "$root/$(dirname "$2")" "$root/include"
    : >"$root/$2"
    echo "#include \"${2#src/}\"" >"$root/$1"
    ! python3 tools/check_includes.py "$root" >/dev/null || status=1
    result $status "$1 may not include $2"
}
offence src/base/a.c src/format/b.h
offence src/base/a.c models/b.h
offence src/format/a.c src/token/b.h
offence src/format/a.c src/model/b.h
offence src/session/a.c src/tune/b.h
offence src/cli/a.c src/session/b.h
offence src/cli/a.c models/b.h
offence models/a.c src/format/b.h
offence include/a.h src/base/b.h
offence src/strange/a.c include/b.h
finish
