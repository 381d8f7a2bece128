#!/bin/bash
# table.sh - the table of ours, llama.cpp's, the limit and the ratios, for models of true shapes.
#
# usage: bench/table.sh MAKE_MODEL OUT.csv [NAME:TYPE...]
#   MAKE_MODEL  a Python program that writes a GGUF of random weights: MAKE_MODEL NAME TYPE FILE
#   OUT.csv     every sample of every file, one header; lines of a finished file are appended at once
#   NAME:TYPE   what to measure; default: the six models in q4_k_m, and q8_0 and q4_0 of some
#
# One file at a time is made in WORK (~ the size of a 4B model), measured and deleted. What is in
# OUT.csv already is not measured again, so an interrupted run goes on where it stopped: a file whose
# measuring was interrupted leaves no line. OUT.csv.log has what was printed beside the numbers.
#   PEER     the peer's command as --peer takes it (default: what bench/peers.sh prints)
#   OPTIONS  for slm bench (default "-p 512 -n 64 -r 5 -d 0,4096")
#   WORK     folder for the files (default: /tmp/slm-table); the peer has to see it
#   PYTHON   to run MAKE_MODEL with (python3)
# bench/table.py OUT.csv prints the table of medians.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 2 ] || {
    sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p' >&2
    exit 2
}
make_model=$1 out=$2
shift 2
[ -f "$make_model" ] || { echo "table: no $make_model" >&2; exit 2; }
[ $# -gt 0 ] || set -- qwen3-0.6b:q8_0 qwen3-0.6b:q4_k_m qwen3-0.6b:q4_0 gemma-3-270m:q8_0 \
    gemma-3-270m:q4_k_m smollm3-3b:q4_k_m qwen3-4b:q4_k_m qwen3-4b:q4_0 qwen3-4b:q8_0 \
    gemma-3-4b:q4_k_m phi-4-mini:q4_k_m
slm=${SLM:-build/slm}
work=${WORK:-/tmp/slm-table}
mkdir -p "$work"
peer=${PEER:-$(bench/peers.sh "$work")}
read -ra options <<<"${OPTIONS:--p 512 -n 64 -r 5 -d 0,4096}"
file=''
child=''
cleanup() {
    [ -z "$child" ] || kill -INT "$child" 2>/dev/null || true
    [ -z "$child" ] || wait "$child" 2>/dev/null || true
    [ -z "$file" ] || rm -f "$file" "$file.csv"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The program's lines with what they are about in front; the header once.
append() {
    local name=$1 type=$2 head
    head=$(head -n 1 "$file.csv")
    [ -s "$out" ] || echo "date,file,type,$head" >"$out"
    [ "$(head -n 1 "$out")" = "date,file,type,$head" ] || {
        echo "table: $out has other columns: move it away" >&2
        return 1
    }
    # one write, so that an interruption leaves all lines of a file or none
    sed "1d; s/^/$(date -u +%F),$name,$type,/" "$file.csv" >"$file.new"
    dd if="$file.new" of="$out" oflag=append conv=notrunc bs=16M status=none
    rm "$file.new"
}

for item in "$@"; do
    name=${item%%:*} type=${item#*:}
    if grep -q "^[^,]*,$name,$type," "$out" 2>/dev/null; then
        echo "table: $name $type is there already" >&2
        continue
    fi
    echo "table: $name $type" >&2
    file=$work/$name-$type.gguf
    "${PYTHON:-python3}" "$make_model" "$name" "$type" "$file" >>"$out.log" 2>&1
    echo "== $(date -u +%FT%TZ) $name $type" >>"$out.log"
    # in the background, so that an interruption of this script is passed on at once
    "$slm" bench "$file" "${options[@]}" --csv --peer "$peer" >"$file.csv" 2>>"$out.log" &
    child=$!
    failed=0
    wait "$child" || failed=$?
    child=''
    if [ "$failed" = 0 ]; then
        append "$name" "$type"
    else
        echo "table: $name $type failed with $failed; see $out.log" >&2
    fi
    rm -f "$file" "$file.csv"
    file=''
done
