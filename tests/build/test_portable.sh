#!/bin/bash
# test_portable.sh - other processors than this one. For 64-bit ARM the library compiles without a
# warning; there the reference kernels compute the same bits, the NEON kernels those of the
# reference, and whole models the logits of this machine; on a processor with every extension, with
# the dot product only, and with none. On the oldest x86-64 processor, where nothing but the
# reference kernels can, the program runs.
# What needs a cross compiler or an emulator is skipped where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/build/common.sh

build=${SLM_BUILD:-build}
read -ra cc <<<"${CC:-cc}"
arm=aarch64-linux-gnu-gcc
processors=(max neoverse-n1 cortex-a53) # every extension, the dot product, none
flags=(-std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -pthread -Wall -Wextra -Wpedantic
    -Wconversion -Wshadow -Werror -Iinclude -Isrc -I.)
# a program for ARM has no jansson and no utf8proc to link with, and calls neither
static=(-static '-Wl,--unresolved-symbols=ignore-all')

# header NAME: where this machine keeps it
header() {
    echo "#include <$1>" | "${cc[@]}" -E - | sed -n "s|^# 1 \"\(.*/$1\)\".*|\1|p"
}

# object SOURCE...: each one compiled into $work/arm, the kernels as they are shipped
object() {
    local f level
    for f in "$@"; do
        level=-O1
        case $f in src/kernels/arm/*) level=-O3 ;; esac
        $arm "${flags[@]}" "$level" -idirafter "$work/headers" -c "$f" \
            -o "$work/arm/${f//\//_}.o" || return 1
    done
}

# The headers of jansson and utf8proc are the same for all processors.
compile_for_arm() {
    local f sources half first
    mkdir "$work/headers" "$work/arm"
    for f in jansson.h jansson_config.h utf8proc.h; do
        cp "$(header "$f")" "$work/headers/"
    done
    mapfile -t sources < <(
        find src/{base,format,token,kernels,chat,constrain,sample,model,session} models -name '*.c'
        [ ! -f "$build/models_list.c" ] || echo "$build/models_list.c"
    )
    half=$(((${#sources[@]} + 1) / 2))
    object "${sources[@]:0:half}" &
    first=$!
    object "${sources[@]:half}" || { wait "$first"; return 1; }
    wait "$first" || return 1
    aarch64-linux-gnu-ar rcs "$work/arm/libslm.a" "$work"/arm/*.o
}

# arm_program NAME SOURCE [FLAG...]
arm_program() {
    local name=$1 source=$2
    shift 2
    $arm "${flags[@]}" -O1 "$@" "$source" "$work/arm/libslm.a" "${static[@]}" -lm \
        -o "$work/arm/$name"
}

# check_on PROCESSOR NAME: one of tests/kernels, with a stand-in for cmocka
check_on() {
    qemu-aarch64 -cpu "$1" "$work/arm/$2"
}

# same_logits PROCESSOR ISA FILE KV: the bits that the reference gives here
same_logits() {
    "$work/logits" "$3" ref "$4" >"$work/logits.here"
    qemu-aarch64 -cpu "$1" "$work/arm/logits" "$3" "$2" "$4" >"$work/logits.arm"
    diff "$work/logits.here" "$work/logits.arm"
}

# check NAME PROCESSOR...: only the products have versions for extensions
check() {
    local name=check_$1 processor
    shift
    try "$name builds for 64-bit ARM" arm_program "$name" "tests/kernels/$name.c" -Itests \
        -Itests/build/stand_in
    for processor in "$@"; do
        try "$name on $processor" check_on "$processor" "$name"
    done
}

models_on_arm() {
    local type processor
    try 'a program for whole models builds for 64-bit ARM' arm_program logits \
        tests/build/logits_bits.c
    # shellcheck disable=SC2046
    try 'the same program builds here' "${cc[@]}" "${flags[@]}" tests/build/logits_bits.c \
        "$build/libslm.a" $(pkg-config --libs jansson libutf8proc) -lm -o "$work/logits"
    for type in q8_0 q4_k_m; do
        try "the demo model as $type" "$build/slm" quantize demo "$work/$type.gguf" --type $type
    done
    for processor in "${processors[@]}"; do
        try "logits of q8_0 on $processor" same_logits "$processor" neon "$work/q8_0.gguf" f16
        try "logits of q4_k_m on $processor" same_logits "$processor" neon "$work/q4_k_m.gguf" q8
    done
    try 'logits of the reference on cortex-a53' same_logits cortex-a53 ref "$work/q8_0.gguf" bf16
}

if ! echo '#include <stdio.h>' | $arm -fsyntax-only -x c - 2>/dev/null; then
    skipped 'the library compiles for 64-bit ARM' "no $arm with its C library here"
    skipped 'the kernels have the same bits on 64-bit ARM' "no $arm with its C library here"
else
    try 'the library compiles for 64-bit ARM' compile_for_arm
    if [ -f "$build/libslm.a" ] && [ -x "$build/slm" ] && command -v qemu-aarch64 >/dev/null; then
        try 'the reference builds for 64-bit ARM' arm_program bits tests/build/ref_bits.c
        try 'the reference builds here' "${cc[@]}" "${flags[@]}" tests/build/ref_bits.c \
            "$build/libslm.a" -lm -o "$work/bits"
        "$work/bits" >"$work/here" || echo failed >"$work/here"
        qemu-aarch64 "$work/arm/bits" >"$work/there" || true
        try 'the reference has the same bits on 64-bit ARM' diff "$work/here" "$work/there"
        check matmul "${processors[@]}"
        check peak "${processors[@]}"
        check rows cortex-a53
        check attention cortex-a53
        models_on_arm
    else
        skipped 'the kernels have the same bits on 64-bit ARM' 'no qemu-aarch64 here'
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
