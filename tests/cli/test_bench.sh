#!/bin/bash
# test_bench.sh - slm bench: the fields, the medians, the table, the peer; not the speed itself.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

# ---- one cell of each kind ----
small='-p 40 -n 8 -r 3'
# shellcheck disable=SC2086
run bench demo $small --json
json bench 'd["prefill_tok_s"] > 0 and d["decode_tok_s"] > 0 and d["prefill_share"] > 0 and d["decode_share"] > 0'
json 'medians of the samples' 'sorted(d["prefill_samples"])[1] == d["prefill_tok_s"] and sorted(d["decode_samples"])[1] == d["decode_tok_s"] and len(d["decode_samples"]) == 3'
json 'shares' 'abs(d["decode_tok_s"] / d["decode_limit_tok_s"] - d["decode_share"]) < 1e-6 and abs(d["prefill_tok_s"] / d["prefill_limit_tok_s"] - d["prefill_share"]) < 1e-6'
json 'what was measured' 'd["model"] == "demo" and d["prompt_tokens"] == 40 and d["output_tokens"] == 8 and d["depth"] == 0 and d["rounds"] == 3 and d["threads"] >= 1 and d["isa"] and d["cpu"]'
json 'limits and cost' 'd["limits"]["read_gb_s"] > 0 and d["limits"]["f32_tflops"] > 0 and d["limits"]["multiply"] in ("int8", "bf16", "f32") and d["cost"]["file_bytes"] > 5e6 and d["cost"]["weight_macs"] > 4e6'
json 'the limit is bytes over bandwidth' 'd["cells"][1]["bound"] == "multiply" or abs(d["limits"]["read_gb_s"] * 1e9 / (d["cost"]["file_bytes"] + d["cost"]["kv_bytes"]) / d["decode_limit_tok_s"] - 1) < 1e-6'
json 'the limit is operations over the peak' 'd["cells"][0]["bound"] == "read" or d["prefill_limit_tok_s"] < d["limits"]["multiply_tops"] * 1e12 / 2 / (d["cost"]["weight_macs"] * 0.5)'
json 'cells' '[c["kind"] for c in d["cells"]] == ["prefill", "decode"] and d["left_out"] == [] and all(c["low"] <= c["tok_s"] <= c["high"] and len(c["read_gb_s_around"]) == 3 for c in d["cells"])'
# shellcheck disable=SC2086
run bench demo $small
ends 'as a table' 0
try 'prefill' grep -qE '^prefill +0 +1 +[0-9.]+' "$work/out"
try 'decode' grep -qE '^decode +0 +1 +[0-9.]+' "$work/out"
awk 'length > 80' "$work/out" >"$work/wide"
empty 'the table fits 80 columns' "$work/wide"
# shellcheck disable=SC2086
run bench demo $small --csv
try 'as CSV' python3 -c '
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert len(rows) == 6 and {r["kind"] for r in rows} == {"prefill", "decode"} and all(float(r["tok_s"]) > 0 and r["who"] == "slm" for r in rows)' "$work/out"
run bench demo -p 16 -n 4 -r 2 -d 100 --json --threads 1 --isa ref
json 'at a depth, one thread, lower step' 'd["depth"] == 100 and d["threads"] == 1 and d["isa"] == "ref" and d["cost"]["kv_bytes"] > 0'
json 'the limit of a lower step is its own' 'd["limits"]["multiply_tops"] == max(m["all_tops"] for m in d["limits"]["multiplies"] if m["isa"] == "ref" and m["unit"] == "f32")'
run bench demo -p 1 -n 1 -r 1 --json --kv f32 --chunk 1
json 'the least there is' 'd["prefill_tok_s"] > 0'

# ---- a constraint ----
echo '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer"}}, "required": ["name", "age"]}' >"$work/schema.json"
run bench demo --schema "$work/schema.json" -n 24 -r 2 --json
json 'a schema' 'd["mask_us"] > 0 and 0 < d["mask_share"] < 1 and 0 < d["forced_share"] < 1 and d["compile_ms"] > 0'
json 'three ways' 'all(d[w]["tok_s"] > 0 and len(d[w]["samples"]) == 2 for w in ("free", "held", "held_forced"))'
run bench demo --schema "$work/schema.json" -n 24 -r 2
try 'as a table' grep -qE '^mask +[0-9.]+ us/token +[0-9.]+ % of decoding' "$work/out"
run bench demo --schema "$work/none.json"
ends 'a schema that is not there' 1

# ---- several depths ----
run bench demo -p 16 -n 4 -r 1 -d 0,64,1000000,64 --json
json 'depths' '[c["depth"] for c in d["cells"]] == [0, 0, 64, 64] and d["cells"][3]["cost"]["kv_bytes"] > d["cells"][1]["cost"]["kv_bytes"] and d["cells"][3]["began_at"] == 64'
json 'what is left out, and why' '[(o["kind"], o["depth"]) for o in d["left_out"]] == [("all", 1000000)] and "1000016" in d["left_out"][0]["why"]'
run bench demo -p 16 -n 4 -r 1 -d 0,1000000
try 'left out in the table' grep -q '^left out: all at depth 1000000, batch 1: ' "$work/out"
run bench demo -p 16 -n 2 -r 1 --full --json
json 'the whole matrix, or why not' '{(c["depth"], c["batch"]) for c in d["cells"]} | {(o["depth"], o["batch"]) for o in d["left_out"]} >= {(e, 1) for e in (0, 4096, 16384)}'


# ---- several sequences ----
run bench demo -p 16 -n 8 -r 2 -d 0,300 -b 1,4,3 --json
json 'batches' '[(c["kind"], c["depth"], c["batch"]) for c in d["cells"]] == [("prefill", 0, 1), ("decode", 0, 1), ("decode", 0, 4), ("decode", 0, 3), ("prefill", 300, 1), ("decode", 300, 1), ("decode", 300, 4), ("decode", 300, 3)]'
json 'each round from the depth on' 'd["cells"][2]["began_at"] == 1 and d["cells"][6]["began_at"] == 300 and len(d["cells"][6]["samples"]) == 2'
json 'weights are read once for all, keys and values by each' 'all(c["bound"] == "multiply" or abs(c["limit_tok_s"] * (c["cost"]["file_bytes"] + c["batch"] * c["cost"]["kv_bytes"]) / c["batch"] / 1e9 / d["limits"]["read_gb_s"] - 1) < 1e-6 for c in d["cells"] if c["kind"] == "decode")'
run bench demo -p 16 -n 8 -r 2 -d 600 -b 8 --json
json 'where prompts are long the sequences go on' 'd["cells"][2]["began_at"] > 600 + 8'
run bench demo -p 16 -n 4 -r 1 -b 1,1024 --max-memory 400M --json
json 'what the memory does not hold' '[(o["depth"], o["batch"]) for o in d["left_out"]] == [(0, 1024)] and len(d["cells"]) == 2'
run bench demo -p 16 -n 4 -r 1 -b 1024 --max-memory 400M
ends 'nothing else was asked for' 4

# ---- the machine ----
run bench --machine --json --threads 1
json 'machine' 'len(d["reads"]) >= 4 and d["read_gb_s"] == max(r["all_gb_s"] for r in d["reads"]) and all(r["one_gb_s"] > 0 for r in d["reads"])'
json 'each instruction set' '"ref" in {m["isa"] for m in d["multiplies"]} and d["isa"] in {m["isa"] for m in d["multiplies"]} and all(m["one_tops"] > 0 for m in d["multiplies"])'
run bench --machine --threads 1
try 'machine as a table' grep -qE '^4 streams.* [0-9.]+ +[0-9.]+' "$work/out"
awk 'length > 80' "$work/out" >"$work/wide"
empty 'the table of the machine fits 80 columns' "$work/wide"
run bench --machine --csv --threads 1
try 'machine as CSV' python3 -c '
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert {r["what"] for r in rows} == {"read", "multiply"} and all(float(r["all_threads"]) > 0 for r in rows)' "$work/out"

# ---- the peer: a script that stands for it ----
recorded=$PWD/tests/data/bench/llama_bench.json
cat >"$work/peer" <<'EOF'
#!/bin/bash
# peer WHAT RECORDED [llama-bench options]
what=$1 recorded=$2
shift 2
echo "$*" >>"${recorded%/*}/calls"
declare -A o
while [ $# -gt 1 ]; do
    o[$1]=$2
    shift 2
done
case $what in
good) sed "s/@PROMPT@/${o[-p]}/; s/@OUTPUT@/${o[-n]}/; s/@DEPTH@/${o[-d]}/" "$recorded" ;;
shallow)
    [ "${o[-d]}" = 0 ] || { echo 'too deep for me' >&2; exit 3; }
    sed "s/@PROMPT@/${o[-p]}/; s/@OUTPUT@/${o[-n]}/; s/@DEPTH@/0/" "$recorded" ;;
garbage) printf '[{"avg_ts": 1e999, "n_prompt": \x1b[31m' ;;
odd) echo '{"n_prompt": 40}' ;;
negative) sed "s/@PROMPT@/${o[-p]}/; s/@OUTPUT@/${o[-n]}/; s/@DEPTH@/${o[-d]}/; s/\"avg_ts\": 40/\"avg_ts\": -40/" "$recorded" ;;
half) sed "s/@PROMPT@/${o[-p]}/; s/@OUTPUT@/7/; s/@DEPTH@/${o[-d]}/" "$recorded" ;;
nothing) ;;
fails) printf 'cannot load the \x1b[31mmodel\n' >&2; exit 7 ;;
dies) kill -SEGV $$ ;;
floods) yes '[1,2,3]' ;;
hangs)
    trap '' TERM
    sleep 300 &
    echo "$$ $!" >"${recorded%/*}/pids"
    wait ;;
esac
EOF
chmod +x "$work/peer"
cp "$recorded" "$work/recorded.json"
run quantize demo "$work/demo.gguf" --type q8_0 --quiet
peer() { run bench "$work/demo.gguf" -p 40 -n 8 -r 2 --peer "'$work/peer' $1 $work/recorded.json" "${@:2}"; }

peer good --json
ends 'peer' 0
json 'the better setting, per cell' 'd["cells"][0]["peer"]["flash_attention"] == "off" and d["cells"][0]["peer"]["tok_s"] == 200.5 and d["cells"][1]["peer"]["flash_attention"] == "on" and d["cells"][1]["peer"]["tok_s"] == 40'
json 'ratio and its spread' 'all(abs(c["peer"]["ratio"] - c["tok_s"] / c["peer"]["tok_s"]) < 1e-6 * c["peer"]["ratio"] and c["peer"]["ratio_low"] <= c["peer"]["ratio_high"] and len(c["peer"]["samples_flash_on"]) == 2 for c in d["cells"])'
json 'what the peer calls itself' 'd["peer_build"] == "build 11669 Debian"'
try 'the arguments' grep -qxF -- "-m $work/demo.gguf -t 1 -p 40 -n 8 -d 0 -r 1 -fa 0,1 -o json" "$work/calls"
rm "$work/calls"
peer good -d 32
try 'peer in the table' grep -qE '^decode +32 +[0-9.]+ +40\.0 +on +[0-9.]+' "$work/out"
# (a round that the machine disturbed is done again)
apart=$(grep -c -- '-fa 0 ' "$work/calls")
try 'settings apart at a depth' test "$apart" -ge 2 -a "$apart" = "$(grep -c -- '-fa 1 ' "$work/calls")"
awk 'length > 80' "$work/out" >"$work/wide"
empty 'with a peer it fits 80 columns' "$work/wide"
peer good --csv
try 'peer as CSV' test "$(grep -c ',peer flash on,decode,' "$work/out")" = 2
peer shallow -d 0,32 --json
json 'a peer that fails later on is left out there' '[o["kind"] for o in d["left_out"]] == ["peer"] and "too deep for me" in d["left_out"][0]["why"] and "peer" in d["cells"][1] and "peer" not in d["cells"][3]'

bad() { # NAME WHAT PATTERN [OPTIONS...]
    peer "$2" "${@:4}"
    ends "$1" 1
    says "$1" "$3"
}
bad 'garbage' garbage 'not JSON'
bad 'another document' odd 'not the list of results'
bad 'a negative speed' negative 'no positive number'
bad 'another test than asked for' half 'no result for decode'
bad 'no output' nothing 'it printed nothing'
bad 'a failure' fails 'exit code 7: cannot load the \?\[31mmodel'
bad 'a crash' dies 'signal 11'
bad 'endless output' floods 'printed more than'
bad 'a hanging peer' hangs 'took more than 1 s' --peer-timeout 1
gone() { # a zombie that nobody has collected is gone
    local pid
    for pid in $(cat "$work/pids"); do
        ! grep -q '^State:.[^ZX]' "/proc/$pid/status" 2>/dev/null || return 1
    done
}
try 'it and what it started are gone' gone
run bench "$work/demo.gguf" -p 4 -n 1 -r 1 --peer "$work/none"
ends 'no such program' 1
says 'no such program' 'cannot be started: No such file'
run bench demo -p 4 -n 1 -r 1 --peer "$work/peer"
ends 'the built-in model has no file' 2
run bench "$work/demo.gguf" -p 4 -n 1 -r 1 --peer "'open"
ends 'an open quote' 2

# Ctrl-C (twice) or SIGTERM while the peer runs
for signal in INT TERM; do
    rm -f "$work/pids"
    "$slm" bench "$work/demo.gguf" -p 4 -n 1 -r 1 --peer "'$work/peer' hangs $work/recorded.json" \
        >"$work/out" 2>"$work/err" &
    bench=$!
    for _ in $(seq 100); do
        [ -s "$work/pids" ] && break
        sleep 0.1
    done
    kill -$signal $bench
    kill -$signal $bench
    status=0
    wait $bench || status=$?
    ends "SIG$signal" 130
    try "SIG$signal ends the peer too" gone
done

# ---- refusals ----
run bench demo -p 1000000 -n 1 -r 1
ends 'more than the context' 1
says 'more than the context' 'smaller --depth'
run bench demo -d 1000000 -n 1 -r 1
ends 'a depth beyond the context' 1
run bench
ends 'without a model' 2
run bench demo --machine
ends 'a model and the machine' 2
run bench demo -p 0
ends 'no tokens' 2
run bench demo -b 0
ends 'no sequences' 2
run bench demo -d 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
ends 'too many depths' 2
finish
