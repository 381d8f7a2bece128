#!/bin/bash
# test_page.sh - the web page: its Markdown, its events and its conversations in node, the whole of it in
# Chromium against a stand-in of the server, and against `slm serve` with the demo model.
#
# playwright-core comes from npm into build/npm/page; without node, npm, Chromium or that package the
# tests that need them are skipped.
set -uo pipefail
. "$(dirname "$0")/../cli/cli_common.sh"

# tap COMMAND...: the results of another TAP stream, counted here
tap() {
    local line name
    timeout 500 "$@" >"$work/tap" 2>&1 || true
    grep -E '^(not )?ok [0-9]+ - ' "$work/tap" | while IFS= read -r line; do
        name=${line#*- }
        case $line in
        *'# SKIP'*) echo "skip ${name%% # SKIP*}" ;;
        ok*) echo "0 $name" ;;
        *) echo "1 $name" ;;
        esac
    done >"$work/results"
    [ -s "$work/results" ] || result 1 "$* gives results" "$work/tap"
    while read -r status name; do
        grep -A 30 -F -- "- $name" "$work/tap" | sed -n '2,${/^\(not \)\?ok \|^1\.\./q;p}' >"$work/detail"
        [ "$status" = skip ] || result "$status" "page: $name" "$work/detail"
    done <"$work/results"
}

if ! command -v node >/dev/null; then
    skipped 'page in node and in a browser' 'node is not installed'
    finish
fi
# a copy in which node takes the page's files for modules and finds what npm fetched
tree=$work/tree
mkdir -p "$tree/src/server" "$tree/tests"
cp -r src/server/page src/server/page.c "$tree/src/server/"
cp -r tests/page "$tree/tests/"
cp tests/page/package.json "$tree/"
tap node --test --test-reporter=tap "$tree"/tests/page/*.test.mjs

for file in src/server/page/*.js; do
    try "${file##*/} has no way to make markup or code of text" bash -c \
        "! grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function' '$file'"
done

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
packages=$(realpath "${SLM_BUILD:-build}")/npm/page
if [ -z "$browser" ]; then
    skipped 'page in a browser' 'chromium is not installed'
    finish
fi
if ! command -v npm >/dev/null; then
    skipped 'page in a browser' 'npm is not installed'
    finish
fi
mkdir -p "$packages"
if ! cmp -s tests/page/package.json "$packages/package.json" || [ ! -d "$packages/node_modules/playwright-core" ]; then
    cp tests/page/package.json "$packages/"
    if ! (cd "$packages" && npm install --no-audit --no-fund --no-package-lock) >"$work/npm" 2>&1; then
        rm "$packages/package.json"
        skipped 'page in a browser' "npm cannot fetch playwright-core: $(grep -m 1 'code' "$work/npm")"
        finish
    fi
fi
ln -s "$packages/node_modules" "$tree/node_modules"

url=
: >"$work/serve.out"
: >"$work/serve.err"
"$slm" serve demo --port 0 >"$work/serve.out" 2>"$work/serve.err" &
server=$!
for ((i = 0; i < 100; i++)); do
    url=$(grep -ohE 'http://127\.0\.0\.1:[0-9]+' "$work/serve.out" "$work/serve.err" | head -n 1)
    [ -z "$url" ] || break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
try 'slm serve says where it is' test -n "$url"
tap node "$tree/tests/page/browser.mjs" "$browser" ${url:+"$url/"}
kill "$server" 2>/dev/null
wait "$server" 2>/dev/null
finish
