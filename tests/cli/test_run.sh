#!/bin/bash
# test_run.sh - slm run and slm complete with the demo model: exact answers, pipes, options,
# receipts, terminals, Ctrl-C.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

# Answers of the reference implementation, greedy, for prompts without near ties.
python3 - "$slm" >"$work/golden" 2>&1 <<'PYTHON'
import json, subprocess, sys
slm = sys.argv[1]
for case in json.load(open("demo-model/golden.json"))["cases"]:
    system = [m["content"] for m in case["messages"] if m["role"] == "system"]
    users = [m["content"] for m in case["messages"] if m["role"] == "user"]
    if case["tools"] or len(case["messages"]) != len(system) + 1 or case["smallest_margin"] < 0.05:
        continue
    if not case["greedy_text"].endswith("<|im_end|>"):
        continue  # the file stops before the answer does
    want = case["greedy_text"].removesuffix("<|im_end|>")
    reasoning = None
    if want.startswith("<think>"):
        reasoning, want = want.removeprefix("<think>").split("</think>")
        reasoning, want = reasoning.strip("\n"), want.lstrip("\n")
    args = [slm, "run", "demo", users[0], "--json"]
    args += ["--think", "on" if case["enable_thinking"] else "off"]
    args += ["--system", system[0]] if system else []
    got = json.loads(subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True).stdout)
    ok = got.get("answer") == want and (got.get("reasoning") or "").strip("\n") == (reasoning or "")
    print("ok" if ok else "not ok", case["id"], json.dumps([want, reasoning, got]) if not ok else "")
PYTHON
while read -r verdict rest; do
    [ "$verdict" = ok ] || { verdict=not; rest=${rest#ok }; }
    echo "$rest" >"$work/detail"
    result "$([ "$verdict" = ok ] && echo 0 || echo 1)" "golden answer ${rest%% *}" "$work/detail"
done <"$work/golden"
result "$([ "$(wc -l <"$work/golden")" -ge 8 ] && echo 0 || echo 1)" 'golden answers were compared' "$work/golden"

peru='What is the capital of Peru?'
run run demo "$peru"
prints 'a prompt' 'The capital of Peru is Lima.'
silent 'a prompt'
run run demo What is the capital of 'Peru?'
prints 'words are joined' 'The capital of Peru is Lima.'
echo "$peru" >"$work/in"
run_with "$work/in" run demo -
prints 'a prompt from standard input' 'The capital of Peru is Lima.'
run_with "$work/in" run demo
prints 'a file on standard input alone' 'The capital of Peru is Lima.'
status=0
echo "$peru" | timeout 60 "$slm" run demo >"$work/out" 2>"$work/err" || status=$?
prints 'a pipe on standard input' 'The capital of Peru is Lima.'
echo 'I am very happy with this.' >"$work/in"
run_with "$work/in" run demo 'Classify the sentiment of this text as positive, negative:' --json
cp "$work/out" "$work/piped"
run run demo 'Classify the sentiment of this text as positive, negative:

I am very happy with this.' --json
result "$(python3 -c 'import json,sys; a,b=(json.load(open(p)) for p in sys.argv[1:]); sys.exit(a["answer"]!=b["answer"] or a["usage"]!=b["usage"])' "$work/piped" "$work/out" && echo 0 || echo 1)" 'a pipe is put after PROMPT'

status=0
(sleep 2; echo "$peru") | timeout 60 "$slm" run demo '' >"$work/out" 2>"$work/err" || status=$?
prints 'a slow pipe is waited for' 'The capital of Peru is Lima.'
(sleep 2; echo 'Peru?') | timeout 60 "$slm" run demo 'What is the capital of' --json >"$work/out" 2>"$work/err"
json 'also beside a PROMPT' 'd["usage"]["prompt_tokens"] > 12'
# an open pipe of some other program, which never gives anything, does not hold the answer up
python3 - "$slm" "$peru" >"$work/out" 2>"$work/err" <<'PYTHON'
import os, subprocess, sys
r, w = os.pipe()
p = subprocess.run([sys.argv[1], "run", "demo", sys.argv[2]], stdin=r, timeout=30)
PYTHON
prints 'an open pipe that gives nothing' 'The capital of Peru is Lima.'
says 'an open pipe that gives nothing' 'going on without it'
printf '1\n2\n3\n' >"$work/in"
while read -r _; do "$slm" run demo "$peru"; done <"$work/in" >"$work/out" 2>"$work/err"
result "$([ "$(grep -cx 'The capital of Peru is Lima.' "$work/out")" -eq 3 ] && echo 0 || echo 1)" 'a loop keeps its file' "$work/out"

run run demo 'What is 47 * 36?'
prints 'reasoning is left out of a pipe' '1692'
run run demo 'What is 47 * 36?' --show-thinking
try 'reasoning is shown when asked for' grep -q '47\*36' "$work/out"
try 'reasoning and answer are told apart' grep -qx '\[answer\]' "$work/out"
run run demo 'What is 47 * 36?' --think off --json
json 'thinking off' 'd["reasoning"] is None and d["usage"]["reasoning_tokens"] == 0'
run run demo 'What is 47 * 36?' --think on --think-budget 10 --json -n 40
json 'a thinking budget' '10 <= d["usage"]["reasoning_tokens"] <= 16 and d["receipt"]["think_closed"] and d["answer"]'

run run demo "$peru" --max-tokens 2 --think off --json
json 'max-tokens' 'd["finish"] == "length" and d["usage"]["output_tokens"] == 2'
run run demo "$peru" --stop ' of' --stop zzz --json
json 'a stop string' 'd["finish"] == "stop_string" and d["answer"] == "The capital"'
run run demo "$peru" --json --seed 7
json 'the receipt' 'd["receipt"]["model"] == "demo" and d["receipt"]["trust"] == "verified" and d["receipt"]["dropped"] == 0 and d["receipt"]["seed"] == 7 and d["receipt"]["context"] == 1024'
json 'the receipt counts' 'd["receipt"]["window_used"] == d["usage"]["prompt_tokens"] + d["usage"]["output_tokens"] and d["receipt"]["types"] and d["receipt"]["isa"] and d["receipt"]["threads"] >= 1'
json 'the timings' 'd["timings"]["prefill_ms"] > 0 and d["timings"]["decode_ms"] > 0'
run run demo "$peru" --json --isa ref --threads 1
json 'isa and threads' 'd["receipt"]["isa"] == "ref" and d["receipt"]["threads"] == 1 and d["answer"] == "The capital of Peru is Lima."'
SLM_ISA=ref SLM_THREADS=1 run run demo "$peru" --json
json 'isa and threads of the environment' 'd["receipt"]["isa"] == "ref" and d["receipt"]["threads"] == 1'
run run demo Hello --temp 1.5 --seed 3
cp "$work/out" "$work/first"
run run demo Hello --temp 1.5 --seed 3
result "$(cmp -s "$work/first" "$work/out" && echo 0 || echo 1)" 'same seed, same text'
run run demo Hello --temp 1.5 --seed random --json
json 'a random seed is told' 'd["receipt"]["seed"] >= 0 and abs(d["receipt"]["sampling"]["temperature"] - 1.5) < 1e-9'
run run demo "$peru" --logit-bias "$("$slm" tokenize demo ' Lima' | cut -d, -f1)=-inf"
result "$(! grep -q Lima "$work/out" && [ "$status" -eq 0 ] && echo 0 || echo 1)" 'a banned token is not written'

cat >"$work/tools.json" <<'TOOLS'
[{"type": "function", "function": {"name": "get_weather", "description": "Get the weather in a city",
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
TOOLS
run run demo 'What is the weather in Oslo?' --tools "$work/tools.json" --think off --json
json 'a tool is called' 'd["answer"] == "" and d["tool_calls"][0]["function"]["name"] == "get_weather"'
json 'its arguments' 'json.loads(d["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}'
run run demo 'What is the weather in Oslo?' --tools "$work/tools.json" --think off
prints 'a call on a line' '[call] get_weather {"city": "Oslo"}'
run run demo 'What is the weather in Oslo?' --tools "$work/tools.json" --think off --tool-choice none --json
json 'no call when none is wanted' '"tool_calls" not in d'
run run demo 'Hello' --tools "$work/tools.json" --think off --tool-choice required --json
json 'a call when one is required' 'len(d["tool_calls"]) >= 1 and d["answer"] == ""'
run run demo 'Hello' --tools "$work/tools.json" --think off --tool-choice get_weather --json
json 'a call of that tool' 'd["tool_calls"][0]["function"]["name"] == "get_weather"'
run run demo 'Hello' --tools "$work/tools.json" --tool-choice get_whether
ends 'a tool that is not there' 1
says 'a tool that is not there' "there is no tool 'get_whether'"
run run demo 'Hello' --tool-choice required
ends 'a choice without tools' 2

# answers that are held to a language
run run demo 'Classify the sentiment of this text as positive, negative: The hotel was wonderful.' \
    --think off --choices positive,negative
prints 'one of the choices' 'positive'
run run demo 'What is 47 * 36?' --choices '["1,692","1,693"]'
prints 'choices with commas, after the thinking' '1,692'
run run demo 'Hello' --think off --regex '[0-9]{3}-[a-f]{2}'
try 'an expression' grep -qxE '[0-9]{3}-[a-f]{2}' "$work/out"
run run demo 'Make a JSON object: name is Anna, age is 30' --think off --json-object
prints 'a JSON object' '{"name": "Anna", "age": 30}'
cat >"$work/person.json" <<'SCHEMA'
{"type": "object", "properties": {"age": {"type": "integer"}, "name": {"type": "string", "maxLength": 20}},
 "required": ["age", "name"], "additionalProperties": false}
SCHEMA
run run demo 'Make a JSON object: name is Anna, age is 30' --think off --schema "$work/person.json" --json
json 'JSON by a schema' 'list(json.loads(d["answer"])) == ["age", "name"] and d["usage"]["forced_tokens"] > 0'
run complete demo 'The person: ' --schema "$work/person.json" --json
json 'raw text by a schema' 'sorted(json.loads(d["text"])) == ["age", "name"]'
echo '{"type": "object", "$dynamicRef": "#x"}' >"$work/odd.json"
run run demo 'Hello' --schema "$work/odd.json"
ends 'a keyword that is not supported' 1
says 'a keyword that is not supported' 'dynamicRef'
run run demo 'Hello' --regex '('
ends 'no regular expression' 1
run run demo 'Hello' --regex 'a' --json-object
ends 'two formats' 2
says 'two formats' 'exclude each other'
run run demo 'Hello' --schema "$work/none.json"
ends 'a schema that is not there' 1
run run demo hi --tools "$work/none.json"
ends 'a tools file that is not there' 1
echo '{"a": 1}' >"$work/object.json"
run run demo hi --tools "$work/object.json"
says 'a tools file that is no array' 'JSON array'
mkdir "$work/plain"
cp demo-model/*.json demo-model/model.safetensors "$work/plain"
echo "{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
" >"$work/plain/chat_template.jinja"
run run "$work/plain" hi --tools "$work/tools.json"
ends 'a template without tools' 1
says 'a template without tools' 'no place for tools'

run complete demo 'The capital of' -n 5 --json
json 'complete' 'd["usage"]["output_tokens"] == 5 and d["text"]'
run complete demo abc -n 1 --echo
try 'complete --echo' grep -q '^abc' "$work/out"

# terminals: pseudo terminal of script(1); colours only there, and not with NO_COLOR
on_terminal() { timeout 60 script -qec "$1" /dev/null </dev/null >"$work/out" 2>&1 || true; }
on_terminal "$slm run demo 'What is 47 * 36?'"
try 'reasoning is dim on a terminal' grep -q $'\033\\[2m' "$work/out"
try 'the answer is not' grep -q $'\033\\[0m' "$work/out"
on_terminal "NO_COLOR=1 $slm run demo 'What is 47 * 36?'"
result "$(! grep -q $'\033\\[[0-9]*m' "$work/out" && grep -q '\[thinking\]' "$work/out" && echo 0 || echo 1)" 'NO_COLOR is honoured'

# guesses and the prompt cache change nothing but the receipt
field() { python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): d = d[k]
print(d)' "$work/out" "$1"; }
repeats='one two three four five six one two three four five six one two three four'
run complete demo "$repeats" -n 60 --speculate off
cp "$work/out" "$work/unguessed"
run complete demo "$repeats" -n 60
try 'guesses do not change the text' cmp "$work/unguessed" "$work/out"
run complete demo "$repeats" -n 60 --draft demo
try 'nor does a draft model' cmp "$work/unguessed" "$work/out"
run complete demo "$repeats" -n 60 --draft demo --json
result "$([ "$(field receipt.draft)" = demo ] && [ "$(field usage.guessed_tokens)" -ge "$(field usage.accepted_tokens)" ] && echo 0 || echo 1)" 'the receipt tells the draft model'
run complete demo x --draft demo --speculate off
ends 'a draft model without guessing' 2
run run demo 'What is 47 * 36?' --prompt-cache "$work/kv" --json
result "$([ "$(field usage.cached_tokens)" -eq 0 ] && [ "$(field receipt.cache_miss)" != None ] && echo 0 || echo 1)" 'the first time nothing is reused, and why is told'
run run demo 'What is 47 * 36?' --prompt-cache "$work/kv" --json
result "$([ "$(field usage.disk_tokens)" -eq 17 ] && [ "$(field answer)" = 1692 ] && [ "$(field receipt.cache_miss)" = None ] && echo 0 || echo 1)" 'the second time all but one token comes from the folder'
run run demo x --prompt-cache Makefile/x
ends 'a folder that cannot be made' 1
says 'a folder that cannot be made' 'Makefile'

# a reader that goes away ends the program quietly
timeout 60 "$slm" complete demo x --temp 1 -n 900 2>"$work/err" </dev/null | head -c 1 >/dev/null
statuses=("${PIPESTATUS[@]}")
result "$([ "${statuses[0]}" -ne 124 ] && [ ! -s "$work/err" ] && echo 0 || echo 1)" 'a reader that goes away' "$work/err"
if [ -e /dev/full ]; then
    status=0
    "$slm" models >/dev/full 2>"$work/err" || status=$?
    : >"$work/out"
    ends 'a full disk' 1
    says 'a full disk' 'cannot write'
fi

# Ctrl-C: what was said is kept, a newline ends it
interrupt() { # ARGS...: SIGINT after the first output
    rm -f "$work/pipe"
    mkfifo "$work/pipe"
    python3 - "$work" "$slm" "$@" <<'PYTHON'
import signal, subprocess, sys
work, *args = sys.argv[1:]
p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(work + "/err", "wb"))
first = p.stdout.read(1)
p.send_signal(signal.SIGINT)
rest = p.stdout.read()
open(work + "/out", "wb").write(first + rest)
open(work + "/status", "w").write(str(p.wait(30)))
PYTHON
    status=$(cat "$work/status")
}
interrupt complete demo x --temp 1.2 --top-k 0 -n 1000 --logit-bias 2553=-inf --logit-bias 2551=-inf
ends 'Ctrl-C' 130
result "$([ -s "$work/out" ] && [ -z "$(tail -c 1 "$work/out")" ] && echo 0 || echo 1)" 'Ctrl-C: what was said is kept, with a newline'
finish
