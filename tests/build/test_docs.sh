#!/bin/bash
# test_docs.sh - the pages say what is so: links resolve, commands shown in the README give what it
# shows, its C program compiles and answers, the picture is what the program draws, every folder of
# src/ has its page, and no machine's path or vendor's text is in a page.
#
# A block marked ```sh is run in an empty folder: "$ COMMAND" lines, each followed by exactly what it
# prints (both streams). Other blocks are not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh

top=$PWD
slm=$(realpath "${SLM_BUILD:-build}")/slm
unset SLM_ISA SLM_THREADS HF_HOME HF_HUB_CACHE OLLAMA_MODELS XDG_DATA_HOME XDG_CACHE_HOME
unset NO_COLOR CMAKE_PREFIX_PATH
export HOME=$work/home SLM_HOME=$work/slm TERM=dumb
mkdir -p "$HOME"

mapfile -t pages < <(find . -name '*.md' -not -path './build*' -not -path './.git/*' | sort)
for page in README.md CONTRIBUTING.md CHANGELOG.md LICENSE docs/ARCHITECTURE.md docs/USAGE.md \
    docs/MODELS.md docs/SPEED.md docs/RELIABILITY.md docs/internals/README.md; do
    try "there is $page" test -s "$page"
done

# ---- links ----
cat >"$work/links.py" <<'PYTHON'
import os, re, sys, urllib.parse
def anchors(path):
    names, code = set(), False
    for line in open(path, encoding="utf-8"):
        code ^= line.startswith("```")
        if line.startswith("#") and not code:
            title = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            names.add(title.replace(" ", "-"))
    return names
for page in sys.argv[1:]:
    text = open(page, encoding="utf-8").read()
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = urllib.parse.unquote(target).partition("#")
        path = os.path.join(os.path.dirname(page), name) if name else page
        if os.path.isabs(name) or not os.path.exists(path):
            print("%s: no %s" % (page, target))
        elif anchor and path.endswith(".md") and anchor not in anchors(path):
            print("%s: no heading for %s" % (page, target))
PYTHON
python3 "$work/links.py" "${pages[@]}" >"$work/broken"
empty 'every relative link resolves' "$work/broken"

# files named in code font: src/…, docs/…, tests/…, tools/…, bench/…, models/…, include/…
grep -noE '`(src|docs|tests|tools|bench|models|include|packaging|demo-model)/[A-Za-z0-9_./-]+`' \
    README.md CONTRIBUTING.md docs/*.md docs/internals/README.md |
    while IFS=: read -r page line name; do
        name=${name//\`/}
        [ -e "${name%/}" ] || echo "$page:$line: no $name"
    done >"$work/broken" || true
empty 'every file that a page names is there' "$work/broken"

# ---- folders ----
for folder in src/*/; do
    name=$(basename "$folder")
    try "docs/internals/$name.md" test -s "docs/internals/$name.md"
    try "the index of pages has $name.md" grep -q "($name.md)" docs/internals/README.md
done

# ---- commands of the program ----
"$slm" help | sed -n 's/^  \([a-z][a-z]*\)   *[a-z].*/\1/p' | grep -v '^slm$' | sort -u >"$work/commands"
try 'help lists commands' test "$(wc -l <"$work/commands")" -gt 5
while read -r command; do
    try "docs/USAGE.md has slm $command" grep -qE "slm $command\b" docs/USAGE.md
done <"$work/commands"
# long options that pages show after "slm" have to exist
"$slm" help --man >"$work/man"
grep -hE '^\$? ?slm |`slm |^ *slm ' README.md docs/USAGE.md docs/RELIABILITY.md docs/SPEED.md |
    grep -oE -- ' --[a-z][a-z-]+' | sort -u | while read -r option; do
    option=${option#--}
    grep -qE -- "^\.?.*Fl Fl $option\b|^\.It Fl -$option\b|-$option\b" "$work/man" || echo "--$option"
done >"$work/unknown" || true
empty 'options in the pages exist' "$work/unknown"

# ---- what the README shows ----
cat >"$work/shown.py" <<'PYTHON'
import re, subprocess, sys
text = open(sys.argv[1], encoding="utf-8").read()
folder, count = sys.argv[2], 0
for block in re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M):
    assert block.startswith("$ "), "a block that is run begins with '$ ': " + block
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command = command[:-1] + more
        done = subprocess.run(["bash", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        got = done.stdout.decode("utf-8", "replace")
        count += 1
        if got.strip() == expected.strip():
            print("ok -", command)
        else:
            print("not ok -", command)
            for title, lines in (("shown", expected), ("now", got)):
                print("".join("# %s: %s\n" % (title, line) for line in lines.strip().split("\n")), end="")
assert count > 0
PYTHON
for page in README.md docs/USAGE.md; do
    mkdir -p "$work/empty"
    status=0
    PATH=$(dirname "$slm"):$PATH python3 "$work/shown.py" "$page" "$work/empty" >"$work/shown" \
        2>"$work/shown.err" || status=1
    result $status "blocks of $page can be run" "$work/shown.err"
    while IFS= read -r line; do
        case $line in
        'ok - '*) result 0 "$page: ${line#ok - }" ;;
        'not ok - '*)
            grep -A 40 -F -- "$line" "$work/shown" | sed -n '2,${/^#/!q;s/^# //p}' >"$work/detail"
            result 1 "$page: ${line#not ok - }" "$work/detail"
            ;;
        esac
    done <"$work/shown"
    rm -rf "$work/empty"
done

# ---- the C program ----
sed -n '/^```c$/,/^```$/{/^```/!p}' README.md >"$work/answer.c"
read -ra core < <(pkg-config --libs jansson libutf8proc)
try 'the C program compiles' "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude \
    "$work/answer.c" "$(dirname "$slm")/libslm.a" "${core[@]}" -lm -pthread -o "$work/answer"
"$work/answer" >"$work/said" 2>&1 || true
try 'and answers 1692' test "$(cat "$work/said")" = 1692

# ---- the picture ----
try 'docs/terminal.svg is what the program draws' \
    python3 tools/terminal_picture.py --slm "$slm" --check
try 'docs/terminal.svg is well-formed' python3 -c \
    'import xml.etree.ElementTree as e; e.parse("docs/terminal.svg")'

# ---- what does not belong into a page ----
grep -nE '(^|[^A-Za-z0-9.~$_])/(home|root|work|tmp|Users|mnt|data)/' "${pages[@]}" docs/terminal.svg \
    >"$work/hits" || true
empty 'no path of a machine' "$work/hits"
grep -niE '\b(TODO|FIXME|XXX|coming soon|for now)\b' "${pages[@]}" >"$work/hits" || true
empty 'nothing is put off' "$work/hits"
LC_ALL=C.UTF-8 awk '{ sub(/\r$/, "") } length($0) > 110 && !/^\|/ && !/\]\(/ && !/^#/ { print FILENAME ":" FNR }' \
    README.md CONTRIBUTING.md CHANGELOG.md docs/ARCHITECTURE.md docs/USAGE.md docs/SPEED.md \
    docs/RELIABILITY.md >"$work/hits"
empty 'lines are at most 110 columns, tables apart' "$work/hits"

reference=${SLM_REFERENCE:-../shared}
if [ -d "$reference/models" ]; then
    # twelve words in a row of a vendor's template or card
    cat >"$work/vendor.py" <<'PYTHON'
import glob, re, sys
words = lambda text: re.findall(r"[a-z0-9]+", text.lower())
runs = lambda w: {tuple(w[i:i + 12]) for i in range(len(w) - 11)}
vendor = set()
for path in glob.glob(sys.argv[1] + "/models/*/*.jinja") + glob.glob(sys.argv[1] + "/models/*/LICENSE*"):
    vendor |= runs(words(open(path, encoding="utf-8", errors="replace").read()))
for page in sys.argv[2:]:
    for run in runs(words(open(page, encoding="utf-8").read())) & vendor:
        print(page + ": " + " ".join(run))
PYTHON
    python3 "$work/vendor.py" "$reference" "${pages[@]}" >"$work/hits"
    empty 'no text of a vendor' "$work/hits"
else
    skipped 'no text of a vendor' 'no reference folder'
fi
cd "$top"
finish
