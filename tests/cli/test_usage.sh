#!/bin/bash
# test_usage.sh - exit codes, and errors as text and as JSON.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

usage() { # PATTERN ARGS...
    local pattern=$1
    shift
    run "$@"
    ends "slm $*" 2
    says "slm $*" "$pattern"
}
usage "'frob' is not a command" frob
usage "did you mean 'slm run'" rnu demo hi
usage 'did you mean --temp\?' run demo hi --tmep 1
usage "'--split' is not an option of 'slm run'" run demo hi --split 1
usage 'wants MODEL' run
usage 'there is no prompt' run demo
usage 'allowed are 0 to 1' run demo hi --top-p 2
usage '--greedy and --temp' run demo hi --greedy --temp 1
usage '--date and --deterministic-date' run demo hi --date 2025-01-01 --deterministic-date
usage '--seed wants' run demo hi --seed x
usage '--logit-bias wants ID=B' run demo hi --logit-bias 5
usage '--logit-bias wants ID=B' run demo hi --logit-bias 9999999=1
usage '--logit-bias wants a number' run demo hi --logit-bias 5=inf
usage '--ids is missing' logits demo
usage 'outside the vocabulary' logits demo --ids 99999
usage "numbers with commas" logits demo --ids 1,b
usage 'chat wants a MODEL' chat
SLM_THREADS=many run run demo hi
ends 'bad SLM_THREADS' 2
says 'bad SLM_THREADS' 'SLM_THREADS wants a whole number'
SLM_ISA=sse9 run run demo hi
says 'bad SLM_ISA' 'SLM_ISA is one of'

run run nomodel hi
ends 'unknown model' 1
says 'unknown model' 'neither a known model nor a file'
run run ./nofile.gguf hi
ends 'no such file' 1
run run qwen3-0.6b hi
ends 'not on disk' 1
says 'not on disk: what pull would fetch, and its size' 'slm pull qwen3-0.6b +fetches .*[0-9] [MG]iB'
says 'not on disk: the way without a network' '^  demo'
run run qwen3-0.6 hi
says 'nearly a model' 'did you mean qwen3-0.6b'
run models qwen3
ends 'models of an unknown id' 1

printf 'GGUF\003\0\0\0' >"$work/cut.gguf"
run info "$work/cut.gguf"
ends 'a file that is cut' 3
says 'a file that is cut' 'at byte'
printf 'XXXX nothing' >"$work/bad.gguf"
run run "$work/bad.gguf" hi
ends 'a file that is none' 3
mkdir "$work/odd"
cp demo-model/* "$work/odd"
echo '{% frobnicate %}' >"$work/odd/chat_template.jinja"
run run "$work/odd" hi
ends 'a template that is wrong' 3
cp demo-model/chat_template.jinja "$work/odd"
truncate -s 100000 "$work/odd/model.safetensors"
run run "$work/odd" hi
ends 'weights that are cut' 3
run run demo hi --max-memory 1M
ends 'too little memory' 4
says 'too little memory: both numbers' 'needs [0-9.]+ [MK]iB, allowed are 1\.0 MiB'
run plan demo --max-memory 1M
ends 'plan: too little memory' 4
run plan demo --context 5000
ends 'plan: beyond the model' 1
run run demo hi --context 5000
ends 'context beyond the model' 1
says 'context beyond the model: both numbers' '5,?000.*1,?024'
run run demo "$(printf '%s\377' hello)"
ends 'invalid UTF-8' 1
says 'invalid UTF-8: where' 'byte 5 of 6'
printf 'a\0b' >"$work/zero"
run_with "$work/zero" run demo -
ends 'a zero byte' 1
says 'a zero byte: where' 'byte 1 of 3 is zero'
head -c 60000 /dev/zero | tr '\0' 'a' | sed 's/a/a /g' >"$work/long"
run_with "$work/long" run demo -
ends 'a prompt beyond the context' 1
says 'a prompt beyond the context: both numbers' '[0-9],[0-9]{3} tokens, the context holds 1,024; nothing was dropped'
run run demo hi there --context 8
ends 'a prompt beyond --context' 1
says 'a prompt beyond --context: the way out with its price' '--context [0-9]+ +\(\+[0-9.]+ [KM]?i?B\)'

for args in 'frob' 'run demo hi --bogus' 'run' 'run nomodel hi' 'plan demo --max-memory 1M' 'run demo hi --context 5000'; do
    # shellcheck disable=SC2086
    run $args --json
    json "slm $args --json" 'd["error"]["code"].startswith("E_") and d["error"]["message"]'
    silent "slm $args --json"
done
run info "$work/cut.gguf" --json
json 'a file that is cut' 'd["error"]["code"] == "E_FORMAT" and d["error"]["offset"] >= 0'
run run qwen3-0.6b hi --json
json 'not on disk' 'd["error"]["code"] == "E_NOTFOUND" and any("slm pull" in w for w in d["error"]["ways"])'
finish
