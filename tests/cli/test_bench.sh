#!/bin/bash
# test_bench.sh - slm bench: the fields, the medians, the table; not the speed itself.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

small='-p 40 -n 8 -r 3'
# shellcheck disable=SC2086
run bench demo $small --json
json bench 'd["prefill_tok_s"] > 0 and d["decode_tok_s"] > 0 and d["prefill_share"] > 0 and d["decode_share"] > 0'
json 'medians of the samples' 'sorted(d["prefill_samples"])[1] == d["prefill_tok_s"] and sorted(d["decode_samples"])[1] == d["decode_tok_s"] and len(d["decode_samples"]) == 3'
json 'shares' 'abs(d["decode_tok_s"] / d["decode_limit_tok_s"] - d["decode_share"]) < 1e-6 and abs(d["prefill_tok_s"] / d["prefill_limit_tok_s"] - d["prefill_share"]) < 1e-6'
json 'what was measured' 'd["model"] == "demo" and d["prompt_tokens"] == 40 and d["output_tokens"] == 8 and d["depth"] == 0 and d["rounds"] == 3 and d["threads"] >= 1 and d["isa"] and d["cpu"]'
json 'limits and cost' 'd["limits"]["read_gb_s"] > 0 and d["limits"]["f32_tflops"] > 0 and d["limits"]["multiply"] in ("int8", "bf16", "f32") and d["cost"]["file_bytes"] > 5e6 and d["cost"]["weight_macs"] > 4e6'
# shellcheck disable=SC2086
run bench demo $small
ends 'as a table' 0
try 'prefill' grep -qE '^prefill +40 +[0-9.]+' "$work/out"
try 'decode' grep -qE '^decode +8 +[0-9.]+' "$work/out"
awk 'length > 80' "$work/out" >"$work/wide"
empty 'the table fits 80 columns' "$work/wide"
# shellcheck disable=SC2086
run bench demo $small --csv
try 'as CSV' python3 -c '
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert len(rows) == 6 and {r["kind"] for r in rows} == {"prefill", "decode"} and all(float(r["tok_s"]) > 0 for r in rows)' "$work/out"
run bench demo -p 16 -n 4 -r 2 -d 100 --json --threads 1 --isa ref
json 'at a depth, one thread, lower step' 'd["depth"] == 100 and d["threads"] == 1 and d["isa"] == "ref" and d["cost"]["kv_bytes"] > 0'
run bench demo -p 1 -n 1 -r 1 --json --kv f32 --chunk 1
json 'the least there is' 'd["prefill_tok_s"] > 0'
run bench demo -p 1000000 -n 1 -r 1
ends 'more than the context' 1
says 'more than the context' 'smaller --depth'
run bench demo -d 1000000 -n 1 -r 1
ends 'a depth beyond the context' 1
run bench demo -b 1 -p 4 -n 1 -r 1
ends 'one sequence' 0
run bench demo -b 2 -p 4 -n 1 -r 1
ends 'several sequences' 1
says 'several sequences' 'one sequence at a time'
run bench
ends 'without a model' 2
run bench demo -p 0
ends 'no tokens' 2
finish
