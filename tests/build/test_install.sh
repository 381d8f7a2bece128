#!/bin/bash
# test_install.sh - make install into a folder; the example out of the installed header compiles in
# C and in C++ with what pkg-config says, and runs; the library shows slm_ names only; uninstall
# leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/build/common.sh
CC=${CC:-cc}
CXX=${CXX:-c++}

stage=$work/stage
try 'make install' make install DESTDIR="$stage" PREFIX=/usr
for file in bin/slm include/slm.h lib/libslm.a lib/libslm.so lib/libslm.so.0 lib/libslm.so.0.1.0 \
    lib/pkgconfig/slm.pc share/man/man1/slm.1 share/bash-completion/completions/slm \
    share/zsh/site-functions/_slm share/fish/vendor_completions.d/slm.fish; do
    try "installed $file" test -s "$stage/usr/$file"
done
try 'man page is clean' mandoc -T lint -W warning,stop "$stage/usr/share/man/man1/slm.1"

export PKG_CONFIG_PATH=$stage/usr/lib/pkgconfig
pc() {
    # the staged prefix in front of what the .pc file says, for this package only
    pkg-config --define-variable=prefix="$stage/usr" --define-variable=libdir="$stage/usr/lib" \
        --define-variable=includedir="$stage/usr/include" "$@" slm
}
try 'pkg-config knows slm' pc --exists
try 'pkg-config has the version' test "$(pc --modversion)" = 0.1.0

# the program in the header's first comment: indented by five after the star
sed -n '/^ \* A complete program:/,/^ \* Threads/{s/^ \*     //p}' "$stage/usr/include/slm.h" \
    >"$work/example.c"
try 'the header has an example' grep -q 'int main' "$work/example.c"
cp "$work/example.c" "$work/example.cc"
read -ra cflags <<<"$(pc --cflags)"
read -ra libs <<<"$(pc --libs)"
read -ra static_libs <<<"$(pc --static --libs | sed 's/-lslm\b//')"
warn=(-Wall -Wextra -Wno-missing-field-initializers -Werror)
try 'example compiles in C' "$CC" -std=c11 "${warn[@]}" "${cflags[@]}" "$work/example.c" \
    "${libs[@]}" -o "$work/example"
try 'example compiles in C++' "$CXX" -std=c++11 "${warn[@]}" "${cflags[@]}" "$work/example.cc" \
    "${libs[@]}" -o "$work/example_cc"
try 'example links statically' "$CC" -std=c11 "${cflags[@]}" "$work/example.c" \
    "$stage/usr/lib/libslm.a" "${static_libs[@]}" -o "$work/example_static"

# answers FILE NAME: runs it on the demo model; it must say something
answers() {
    local status=0
    LD_LIBRARY_PATH=$stage/usr/lib timeout 60 "$1" demo-model >"$work/answer" 2>"$work/try.log" ||
        status=1
    [ -s "$work/answer" ] || status=1
    result $status "$2" "$work/try.log"
}
answers "$work/example" 'example answers with the demo model'
cp "$work/answer" "$work/first"
answers "$work/example_cc" 'example in C++ answers'
answers "$work/example_static" 'example with the static library answers'
try 'both libraries give the same answer' cmp "$work/first" "$work/answer"

nm -D --defined-only "$stage/usr/lib/libslm.so" | awk '{print $NF}' | grep -v '^slm_' \
    >"$work/names" || true
empty 'the shared library shows slm_ names only' "$work/names"
try 'and the public functions' grep -q slm_engine_open <(nm -D --defined-only "$stage/usr/lib/libslm.so")
readelf -d "$stage/usr/lib/libslm.so" | grep -oE 'NEEDED.*\[.*\]' |
    grep -vE 'libc\.|libm\.|libjansson|libutf8proc|libpthread|ld-linux' >"$work/needed" || true
empty 'the library needs only libc, libm, jansson and utf8proc' "$work/needed"
# neither the folder it was built in nor the stage may be written into what is installed
grep -rlF "$stage" "$stage" >"$work/paths" 2>/dev/null || true
empty 'nothing installed names the stage' "$work/paths"

try 'make uninstall' make uninstall DESTDIR="$stage" PREFIX=/usr
find "$stage" ! -type d >"$work/left"
empty 'uninstall leaves nothing' "$work/left"
finish
