#!/bin/bash
# test_portable.sh - other processors than this one: the library compiles for 64-bit ARM without a
# warning, the reference kernels compute the same bits there, and the program runs on the oldest
# x86-64 processor, where nothing but the reference kernels can.
# What needs a cross compiler or an emulator is skipped where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/build/common.sh

build=${SLM_BUILD:-build}
arm=aarch64-linux-gnu-gcc
flags=(-std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -pthread -Wall -Wextra -Wpedantic
    -Wconversion -Wshadow -Werror -Iinclude -Isrc -I.)

# header NAME: where this machine keeps it
header() {
    echo "#include <$1>" | ${CC:-cc} -E - | sed -n "s|^# 1 \"\(.*/$1\)\".*|\1|p"
}

# The headers of jansson and utf8proc are the same for all processors.
compile_for_arm() {
    local f
    mkdir "$work/headers"
    for f in jansson.h jansson_config.h utf8proc.h; do
        cp "$(header $f)" "$work/headers/"
    done
    find src/{base,format,token,kernels,chat,sample,model,session} models -name '*.c' -print0 |
        xargs -0 -P 2 -n 16 $arm "${flags[@]}" -idirafter "$work/headers" -fsyntax-only
}

build_bits_for_arm() {
    local sources
    mapfile -t sources < <(find src/base src/kernels -name '*.c' ! -name 'json*')
    $arm "${flags[@]}" -O1 -static tests/build/ref_bits.c "${sources[@]}" -lm -o "$work/bits-arm"
}

if ! echo '#include <stdio.h>' | $arm -fsyntax-only -x c - 2>/dev/null; then
    skipped 'the library compiles for 64-bit ARM' "no $arm with its C library here"
    skipped 'the reference has the same bits on 64-bit ARM' "no $arm with its C library here"
else
    try 'the library compiles for 64-bit ARM' compile_for_arm
    if [ -f "$build/libslm.a" ] && command -v qemu-aarch64 >/dev/null; then
        try 'the reference builds for 64-bit ARM' build_bits_for_arm
        try 'the reference builds here' "${CC:-cc}" "${flags[@]}" tests/build/ref_bits.c \
            "$build/libslm.a" -lm -o "$work/bits"
        "$work/bits" >"$work/here" || echo failed >"$work/here"
        qemu-aarch64 "$work/bits-arm" >"$work/arm" || true
        try 'the reference has the same bits on 64-bit ARM' diff "$work/here" "$work/arm"
    else
        skipped 'the reference has the same bits on 64-bit ARM' 'no qemu-aarch64 here'
    fi
fi

if [ "$(uname -m)" = x86_64 ] && [ -x "$build/slm" ] && command -v qemu-x86_64 >/dev/null; then
    try 'the program runs without AVX' qemu-x86_64 -cpu qemu64 "$build/slm" logits demo \
        --ids 1,2,3 --threads 1 --out "$work/old.npy"
    try 'the reference kernels here' "$build/slm" logits demo --ids 1,2,3 --isa ref \
        --out "$work/ref.npy"
    try 'the same logits without AVX' cmp "$work/old.npy" "$work/ref.npy"
else
    skipped 'the program runs without AVX' 'no qemu-x86_64 here, or another processor'
fi
finish
