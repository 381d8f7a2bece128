#!/bin/bash
# test_shell.sh - scripts are clean for shellcheck, Python compiles, no secret-looking or machine
# path in what is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

mapfile -t scripts < <(
    git ls-files -co --exclude-standard 2>/dev/null | while read -r f; do
        if [ -f "$f" ] && head -c 64 "$f" | head -n 1 | grep -qaE '^#!.*\b(ba)?sh\b'; then
            echo "$f"
        fi
    done
)
[ ${#scripts[@]} -gt 0 ] || scripts=(check start .ci/run tools/packages.sh tests/build/*.sh)
for f in "${scripts[@]}"; do
    try "shellcheck $f" shellcheck -x -P SCRIPTDIR -S warning "$f"
done
for f in tools/*.py; do
    try "python compiles $f" python3 -c 'import ast,sys; ast.parse(open(sys.argv[1]).read())' "$f"
done
finish
