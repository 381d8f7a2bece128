#!/bin/bash
# test_help.sh - help, man page and completions that come from the table: width, lint, loading.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

commands=$("$slm" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p' | grep -vx slm)
result "$([ "$(wc -w <<<"$commands")" -ge 14 ] && echo 0 || echo 1)" 'help lists the commands'
for c in '' $commands; do
    # shellcheck disable=SC2086
    run help $c
    python3 -c 'import sys
for line in open(sys.argv[1], encoding="utf-8"):
    if len(line.rstrip("\n")) > 80 or line != line.rstrip() + "\n": print(line)' "$work/out" >"$work/wide"
    empty "help ${c:-(all)} fits 80 columns" "$work/wide"
    [ -n "$c" ] || continue
    cp "$work/out" "$work/first"
    run "$c" --help
    result "$(cmp -s "$work/first" "$work/out" && echo 0 || echo 1)" "$c --help is help $c"
done
run help nonsense
ends 'help on nothing' 2
run help mdoels
says 'help on a slip' "did you mean 'slm help models'"

run help --man
cp "$work/out" "$work/slm.1"
if command -v mandoc >/dev/null; then
    mandoc -Tlint -W warning "$work/slm.1" >"$work/lint" 2>&1
    empty 'man page passes mandoc' "$work/lint"
    mandoc -Tutf8 "$work/slm.1" | sed "s,.\x08,,g" >"$work/page"
    for word in '--think-budget' 'SLM_HOME' 'EXIT STATUS' 'slm detokenize'; do
        try "man page has $word" grep -qF -- "$word" "$work/page"
    done
else
    skipped 'man page passes mandoc' 'mandoc is not installed'
fi
# every option of every help page is in the man page
for c in $commands; do
    "$slm" help "$c" | sed -n 's/.* \(--[a-z-]*\).*/\1/p'
done | sort -u | while read -r option; do
    grep -qF -- "Fl \\${option#-}" "$work/slm.1" || echo "$option"
done >"$work/missing"
empty 'man page has every option' "$work/missing"

for shell in bash zsh fish; do "$slm" help --completions $shell >"$work/$shell"; done
try 'bash completions load' bash -c "set -e; source '$work/bash'; complete -p slm"
complete_bash() { # WORDS...: completions of the last one
    bash -c "source '$work/bash'; COMP_WORDS=($*); COMP_CWORD=$(($# - 1)); _slm; printf '%s\n' \"\${COMPREPLY[@]}\""
}
try 'bash completes commands' grep -qx models <(complete_bash slm mod)
try 'bash completes options' grep -qx -- --think-budget <(complete_bash slm run --thi)
try 'bash completes words' grep -qx off <(complete_bash slm run --think of)
try 'bash completes ids' grep -qx demo <(complete_bash slm run dem)
complete_bash slm models --thi >"$work/none"
sed -i '/^$/d' "$work/none"
empty 'bash offers no option of another command' "$work/none"
if command -v shellcheck >/dev/null; then
    try 'bash completions pass shellcheck' shellcheck -s bash "$work/bash"
else
    skipped 'bash completions pass shellcheck' 'shellcheck is not installed'
fi
if command -v zsh >/dev/null; then
    try 'zsh completions load' zsh -fc "autoload -Uz compinit; compinit -u -d '$work/dump'; source '$work/zsh'; whence -w _slm"
else
    skipped 'zsh completions load' 'zsh is not installed'
fi
if command -v fish >/dev/null; then
    try 'fish completions load' fish -N -c "source '$work/fish'; complete -C 'slm run --think '"
else
    skipped 'fish completions load' 'fish is not installed'
fi
run --version
try 'version' grep -qE '^slm [0-9]+\.[0-9]+\.[0-9]+$' "$work/out"
finish
