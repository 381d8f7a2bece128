#!/bin/bash
# test_clients.sh - the server and the clients that people have: OpenAI's, Anthropic's, Ollama's and the AI
# SDK, from npm, in the versions of clients/package.json. See check_clients.py.
#
# The packages go to build/npm/clients once; without node, npm or those packages all of it is skipped.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

# give_up REASON: one result, skipped
give_up() {
    echo "# skip $1"
    echo "ok 1 - clients from npm # SKIP $1"
    echo '1..1'
    exit 0
}
command -v node >/dev/null || give_up 'node is not installed'
command -v npm >/dev/null || give_up 'npm is not installed'
folder=$(realpath "${SLM_BUILD:-build}")/npm/clients
mkdir -p "$folder"
if ! cmp -s tests/server/clients/package.json "$folder/package.json" || [ ! -d "$folder/node_modules" ]; then
    rm -rf "$folder/node_modules"
    cp tests/server/clients/package.json "$folder/"
    if ! (cd "$folder" && npm install --no-audit --no-fund --no-package-lock) >"$folder/npm.log" 2>&1; then
        rm "$folder/package.json"
        give_up "npm cannot fetch the clients: $(grep -m 1 'code' "$folder/npm.log")"
    fi
fi
exec python3 tests/server/check_clients.py "$folder"
