#!/bin/bash
# test_bans.sh - what the library (levels 0-3) must not name: it returns errors, so it neither
# prints nor ends the process, and all its memory comes through base/mem.c.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/build/common.sh

# the sources with comments and string literals blanked, line numbers kept
python3 - "$work" <<'PYTHON'
import os, re, sys
out = sys.argv[1]
token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
for top in ("src", "models"):
    for folder, _, files in os.walk(top):
        if folder.split("/")[1:2] and folder.split("/")[1] in ("cli", "agent", "compare", "picture", "server"):
            continue
        for name in files:
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.join(folder, name)
            text = open(path, encoding="utf-8").read()
            text = token.sub(lambda m: "\n" * m.group().count("\n") +
                             ('""' if m.group()[0] == '"' else " "), text)
            os.makedirs(os.path.join(out, folder), exist_ok=True)
            open(os.path.join(out, path), "w", encoding="utf-8").write(text)
PYTHON

# ban WHAT PATTERN [FILE THAT MAY]
ban() {
    (cd "$work" && grep -rnE "(^|[^A-Za-z0-9_.>])($2)" src models) | grep -v "^${3:-/}:" \
        >"$work/hits" || true
    empty "library has no $1" "$work/hits"
}
ban 'printing' '(printf|vprintf|fprintf|vfprintf|puts|putchar|fputs|fputc|putc|perror) *\('
ban 'stdout or stderr' '(stdout|stderr)\b'
ban 'ending of the process' '(abort|exit|_exit|_Exit|quick_exit|raise|kill) *\('
ban 'allocation outside base/mem.c' \
    '(malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf|alloca|posix_memalign|aligned_alloc) *\(' \
    src/base/mem.c
ban 'environment variables' '(getenv|secure_getenv|setenv|putenv) *\('
ban 'unchecked text functions' '(strcat|sprintf|vsprintf|gets|strtok|strncpy|strncat) *\('
ban 'hidden state of the C library' '(rand|srand|random|srandom|drand48|strerror|localtime|gmtime|setlocale|localeconv) *\('

# names of models belong to models/
grep -rniE 'qwen|gemma|smollm|phi-?[34]|jan-v1' src/base src/format src/token src/kernels src/chat \
    src/constrain src/sample src/model src/session src/tune --include='*.c' --include='*.h' \
    2>/dev/null | grep -iE 'strcmp|strn?casecmp|== *"|str_eq|_equal\(|same_name' >"$work/hits" || true
empty 'no decision by a model name outside models/' "$work/hits"

grep -nE -- '-march=native|-ffast-math|-Ofast|-funsafe-math' Makefile CMakeLists.txt |
    grep -v '^[^:]*:[0-9]*: *#' >"$work/hits" || true
empty 'no build flag that changes numbers' "$work/hits"
finish
