#!/bin/bash
# run.sh - prefill and decode at growing context, as CSV on stdout and in build/bench.csv.
#
# usage: bench/run.sh [MODEL...]      (default: demo)
#   DEPTHS   tokens already in the cache, default "0 512 2048 8192"; a model's context ends the row
#   THREADS  passed to slm
# The shares are of what the machine itself reaches, measured in the same run (see slm bench).
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- demo
slm=${SLM:-build/slm}
out=build/bench.csv
cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1 | tr ',' ' ')
version=$("$slm" --version | head -n 1 | tr ',' ' ')
threads=()
[ -z "${THREADS:-}" ] || threads=(--threads "$THREADS")

echo 'date,version,cpu,model,depth,prefill_tok_s,decode_tok_s,prefill_share,decode_share' | tee "$out"
for model in "$@"; do
    for depth in ${DEPTHS:-0 512 2048 8192}; do
        result=$("$slm" bench "$model" -d "$depth" "${threads[@]}" --json 2>/dev/null) || {
            echo "$model at depth $depth: $(head -c 200 <<<"$result")" >&2
            break
        }
        python3 -c '
import json, sys
row = json.loads(sys.stdin.read())
keys = ("prefill_tok_s", "decode_tok_s", "prefill_share", "decode_share")
print(",".join(sys.argv[1:] + ["%.4g" % row[k] if row.get(k) is not None else "" for k in keys]))
' "$(date -u +%F)" "$version" "$cpu" "$model" "$depth" <<<"$result" | tee -a "$out"
    done
done
