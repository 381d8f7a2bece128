#!/bin/bash
# test_agent_npm.sh - slm agent with servers of the official SDKs from npm, over standard input and output
# and over streamable HTTP: @modelcontextprotocol/sdk for the handshake, with sessions, plain answers and
# without state; @modelcontextprotocol/server for 2026-07-28, alone and with the handshake beside it.
#
# The packages go to build/npm/agent once; without node, npm or those packages all of it is skipped.
set -uo pipefail
. "$(dirname "$0")/../cli/cli_common.sh"

give_up() {
    echo "ok 1 - servers of the MCP SDK # SKIP $1"
    echo 1..1
    exit 0
}
command -v node >/dev/null || give_up 'node is not installed'
command -v npm >/dev/null || give_up 'npm is not installed'
folder=${SLM_BUILD:-build}/npm/agent
mkdir -p "$folder"
folder=$(realpath "$folder")
if ! cmp -s tests/agent/npm/package.json "$folder/package.json" || [ ! -d "$folder/node_modules" ]; then
    cp tests/agent/npm/package.json "$folder/"
    if ! (cd "$folder" && HOME=$work npm install --no-audit --no-fund --no-package-lock) >"$folder/npm.log" 2>&1; then
        rm -f "$folder/package.json"
        give_up "npm cannot fetch the SDK: $(grep -m 1 'code' "$folder/npm.log")"
    fi
fi
cp tests/agent/npm/*.mjs "$folder/"

# check NAME TITLE VERSION TOOLS: the loop over the server of $work/sdk.json
check() {
    run agent demo --mcp "$work/sdk.json" --yes --json --allow-tool get_weather --transcript "$work/sdk.jsonl" \
        'What is the weather in Paris?'
    json "$1: the loop" 'd["answer"].strip() == "It is 18 degrees and sunny in Paris." and d["calls"][0]["result"] == "{\"temperature\":18,\"condition\":\"sunny\"}"'
    result "$(grep -q "\"title\":\"sdk-server $2\",\"protocol\":\"$3\"" "$work/sdk.jsonl" && echo 0 || echo 1)" \
        "$1: version and title" "$work/sdk.jsonl"
    run agent demo --mcp "$work/sdk.json" --tools-cost --json
    json "$1: all tools" '[t["name"] for t in d["tools"]] == '"$4"
    result "$([ ! -s "$work/err" ] && echo 0 || echo 1)" "$1: nothing to complain of" "$work/err"
    rm -f "$work/sdk.jsonl"
}

node=$(command -v node)
echo "{\"mcpServers\":{\"sdk\":{\"command\":\"$node\",\"args\":[\"$folder/server.mjs\"]}}}" >"$work/sdk.json"
old='["get_weather", "slow", "fails"]'
new='["get_weather", "fails"]'
check stdio 2.0 2025-11-25 "$old"
for mode in sessions json stateless; do
    (cd "$folder" && exec "$node" server.mjs "$work/port" $mode) 2>"$work/server.err" &
    server=$!
    for _ in $(seq 1000); do [ -s "$work/port" ] && break; sleep 0.02; done
    echo "{\"mcpServers\":{\"sdk\":{\"url\":\"http://127.0.0.1:$(cat "$work/port")/mcp\"}}}" >"$work/sdk.json"
    check "HTTP, $mode" 2.0 2025-11-25 "$old"
    kill $server
    wait $server 2>/dev/null
    [ $mode = stateless ] || result "$(grep -q closed "$work/server.err" && echo 0 || echo 1)" \
        "HTTP, $mode: the session was ended" "$work/server.err"
    rm -f "$work/port"
done
for era in only both; do
    echo "{\"mcpServers\":{\"sdk\":{\"command\":\"$node\",\"args\":[\"$folder/modern.mjs\",\"$era\"]}}}" >"$work/sdk.json"
    check "version 2, stdio, $era" 3.0 2026-07-28 "$new"
    (cd "$folder" && exec "$node" modern.mjs $era "$work/port") 2>"$work/server.err" &
    server=$!
    for _ in $(seq 1000); do [ -s "$work/port" ] && break; sleep 0.02; done
    echo "{\"mcpServers\":{\"sdk\":{\"url\":\"http://127.0.0.1:$(cat "$work/port")/mcp\"}}}" >"$work/sdk.json"
    check "version 2, HTTP, $era" 3.0 2026-07-28 "$new"
    result "$(grep -q 'POST tools/call Paris' "$work/server.err" && echo 0 || echo 1)" \
        "version 2, HTTP, $era: the marked parameter is in a header" "$work/server.err"
    result "$(grep -qv '^POST \(server/discover\|tools/list\|tools/call\)' "$work/server.err" && echo 1 || echo 0)" \
        "version 2, HTTP, $era: nothing else was sent" "$work/server.err"
    [ $era = only ] || {
        sed -i 's#"url"#"slm":{"protocol":"2025-11-25"},"url"#' "$work/sdk.json"
        check "version 2, HTTP, by the handshake" 3.0 2025-11-25 "$new"
    }
    kill $server
    wait $server 2>/dev/null
    rm -f "$work/port"
done
finish
