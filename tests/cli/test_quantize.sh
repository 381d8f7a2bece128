#!/bin/bash
# test_quantize.sh - slm quantize: the file answers, names and refusals, nothing half-made.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"
q='What is the capital of France?'

for type in f32 bf16 q8_0 q4_k_m iq4_xs; do
    run quantize demo "$work/$type.gguf" --type $type
    ends "to $type" 0
    silent "to $type"
    run run "$work/$type.gguf" "$q" --greedy
    prints "$type answers" 'The capital of France is Paris.'
done
run quantize demo-model "$work/folder.gguf" --type q8_0 --json
json 'from a folder' 'd["out_bytes"] < d["in_bytes"] and {t["type"] for t in d["types"]} == {"Q8_0", "F32"} and 8.4 < d["bits_per_weight"] < 8.7 and d["tensors"] == sum(t["tensors"] for t in d["types"])'
try 'the built-in demo and its folder give the same bytes' cmp "$work/q8_0.gguf" "$work/folder.gguf"
run quantize "$work/f32.gguf" "$work/again.gguf" --type q8_0
ends 'from a GGUF file' 0
run info "$work/again.gguf" --json
json 'it is the same model' 'd["id"] == "demo" and d["trust"] == "verified" and d["tokenizer"] and d["template"]'
run tokenize "$work/again.gguf" 'Hello world'
cp "$work/out" "$work/ids"
run tokenize demo 'Hello world'
try 'with the same tokenizer' cmp "$work/out" "$work/ids"

run quantize demo "$work/q8_0.gguf" --type q4_0
ends 'a file that is there' 1
says 'a file that is there' '--force'
try 'it is as it was' cmp "$work/q8_0.gguf" "$work/folder.gguf"
run quantize demo "$work/again.gguf" --type q4_0 --force --json
json '--force' '"Q4_0" in [t["type"] for t in d["types"]]'
run quantize "$work/again.gguf" "$work/again.gguf" --type f16 -f
ends 'onto itself' 0
run run "$work/again.gguf" "$q" --greedy
ends 'and it loads' 0
run quantize demo "$work/x.gguf"
ends 'without a type' 2
says 'without a type: which there are' '--type q4_k_m'
run quantize demo "$work/x.gguf" --type q9
ends 'an unknown type' 2
run quantize demo "$work" --type q8_0
ends 'a folder as output' 2
run quantize nothing-there "$work/x.gguf" --type q8_0
ends 'an unknown model' 1
run quantize demo "$work/no/folder/x.gguf" --type q8_0
ends 'an output folder that is not there' 1
head -c 3000 "$work/q8_0.gguf" >"$work/cut.gguf"
run quantize "$work/cut.gguf" "$work/x.gguf" --type q8_0
ends 'a truncated file' 3
run quantize "$work/cut.gguf" "$work/x.gguf" --type q8_0 --json
json 'a truncated file as JSON' 'd["error"]["code"] == "E_FORMAT" and "message" in d["error"]'
(ulimit -f 2000; trap '' XFSZ; timeout 60 "$slm" quantize demo "$work/x.gguf" --type f32 >"$work/out" 2>"$work/err"; echo $? >"$work/status")
status=$(cat "$work/status")
ends 'a full disk' 1
result "$([ ! -e "$work/x.gguf" ] && echo 0 || echo 1)" 'nothing has the name after a failure'
find "$work" -maxdepth 1 -type f ! -name '*.gguf' -size +20k >"$work/left"
empty 'no temporary file is left' "$work/left"
find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'slm-demo-*' -newer "$work/f32.gguf" >"$work/left" 2>/dev/null
empty 'no folder of the demo is left' "$work/left"
finish
