#!/bin/bash
# test_agent.sh - slm agent with the demo model and the server of this folder: the loop, consent, limits,
# the transcript, servers that fail, terminals and signals.
set -uo pipefail
. "$(dirname "$0")/../cli/cli_common.sh"

# config NAME ARGS...: a file with one server 'home' that is started with these arguments
config() {
    local name=$1
    shift
    python3 - "$@" >"$work/$name.json" <<'PYTHON'
import json, os, sys
print(json.dumps({"mcpServers": {"home": {"command": "python3", "args": ["tests/agent/server.py"] + sys.argv[1:]}}}))
PYTHON
}
# edit NAME EXPRESSION: changes s, the server's entry
edit() {
    python3 - "$work/$1.json" "$2" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1])); s = d["mcpServers"]["home"]; exec(sys.argv[2]); json.dump(d, open(sys.argv[1], "w"))
PYTHON
}
config three --tools get_weather,search_web,add --docs tests/agent/documents
paris='What is the weather in Paris?'

# ---- the loop ----
run agent demo --mcp "$work/three.json" --yes "$paris"
prints 'weather' 'It is 18 degrees and sunny in Paris.'
says 'weather' 'call get_weather \{"city": "Paris"\}'
run agent demo --mcp "$work/three.json" --yes --json "$paris"
json 'the right tool' 'd["steps"] == 2 and [c["name"] for c in d["calls"]] == ["get_weather"]'
json 'its arguments' 'd["calls"][0]["arguments"] == {"city": "Paris"}'
json 'the answer' 'd["answer"].strip() == "It is 18 degrees and sunny in Paris." and d["finish"] == "stop"'
json 'the second step reuses the first' 'd["usage"]["cached_tokens"] > 250'
json 'totals' 'd["total"]["prompt_tokens"] > d["usage"]["prompt_tokens"] and d["total"]["tools_ms"] > 0'
run agent demo --mcp "$work/three.json" --yes --think off --json 'Add 123 and 45.'
json 'another tool' 'd["calls"][0]["name"] == "add" and d["calls"][0]["arguments"] == {"a": 123, "b": 45}'
json 'another answer' 'd["answer"] == "The result is 168." and d["reasoning"] is None'
run agent demo --mcp "$work/three.json" --yes --json 'What is the capital of Peru?'
json 'no tool is needed' 'd["answer"].strip() == "The capital of Peru is Lima." or d["calls"]'

# ---- the example of a search tool ----
run agent demo --mcp examples/agent/search.json --json 'Look up winter coats.'
json 'search: the call' 'd["calls"][0]["name"] == "search_web" and d["calls"][0]["arguments"] == {"query": "winter coats"}'
json 'search: consent of the file' 'd["calls"][0]["consent"] == "approved"'
json 'search: what was found' 'json.loads(d["calls"][0]["result"]) == {"results": ["medieval castles"]}'
json 'search: the answer' 'd["answer"].strip() == "I found: medieval castles."'

# ---- both eras, HTTP ----
for era in modern legacy; do
    config $era --tools get_weather --era $era --bad talks
    run agent demo --mcp "$work/$era.json" --yes "$paris"
    prints "$era" 'It is 18 degrees and sunny in Paris.'
    result "$(grep -q 'disk is full\|standard error' "$work/err" && echo 1 || echo 0)" "$era: logs are not shown"
    run agent demo --mcp "$work/$era.json" --yes --server-log "$paris"
    says "$era: --server-log" 'home: warning: disk is full'
    says "$era: --server-log" 'home: a word on standard error'
    python3 tests/agent/server.py --era $era --tools get_weather --http "$work/port" --sse &
    server=$!
    for _ in $(seq 500); do [ -s "$work/port" ] && break; sleep 0.02; done
    echo "{\"mcpServers\":{\"web\":{\"url\":\"http://127.0.0.1:$(cat "$work/port")/mcp\"}}}" >"$work/web.json"
    run agent demo --mcp "$work/web.json" --approve 'web/*' "$paris"
    prints "$era over HTTP" 'It is 18 degrees and sunny in Paris.'
    kill $server
    wait $server 2>/dev/null
    rm -f "$work/port"
done

# ---- consent ----
run agent demo --mcp "$work/three.json" --json "$paris"
json 'without a terminal a call is refused' 'd["calls"][0]["consent"] == "refused: no terminal" and d["calls"][0]["error"]'
run agent demo --mcp "$work/three.json" "$paris"
says 'and that is said' 'refused: there is no terminal to ask on'
for pattern in get_weather 'get_*' home/get_weather 'home/*'; do
    run agent demo --mcp "$work/three.json" --approve "$pattern" --json "$paris"
    json "--approve $pattern" 'd["calls"][0]["consent"] == "--approve" and not d["calls"][0]["error"]'
done
run agent demo --mcp "$work/three.json" --approve 'search*' --json "$paris"
json '--approve of another tool' 'd["calls"][0]["consent"].startswith("refused")'
cp "$work/three.json" "$work/auto.json"
edit auto 's["alwaysAllow"] = ["get_weather"]'
run agent demo --mcp "$work/auto.json" --json "$paris"
json 'alwaysAllow' 'd["calls"][0]["consent"] == "approved"'

# ask KEY [KEY...]: answers at a terminal; the program's output to $work/tty, its status to $status
ask() {
    cat >"$work/ask.exp" <<'EXPECT'
set timeout 60
spawn -noecho {*}[lrange $argv 1 end]
foreach key [split [lindex $argv 0] ,] {
    expect {
        -re {quit: $} { send -- "$key\r" }
        timeout { exit 99 }
        eof { exit [lindex [wait] 3] }
    }
}
expect { eof {} timeout { exit 99 } }
exit [lindex [wait] 3]
EXPECT
    status=0
    expect "$work/ask.exp" "$@" >"$work/tty" 2>&1 || status=$?
}
asked() { # NAME STATUS PATTERN
    { echo "status $status"; cat "$work/tty"; } >"$work/show"
    result "$([ "$status" -eq "$2" ] && grep -qE -- "$3" "$work/tty" && echo 0 || echo 1)" "$1" "$work/show"
}
ask y "$slm" agent demo --mcp "$work/three.json" "$paris"
asked 'asked: yes' 0 'It is 18 degrees and sunny'
asked 'asked: what would be called' 0 "get_weather of 'home' wants to be called with .*Paris"
asked 'at a terminal the costs are shown' 0 'all tools, of the context'
ask x,a "$slm" agent demo --mcp "$work/three.json" "$paris"
asked 'asked: an unknown key, then always' 0 'It is 18 degrees and sunny'
ask n "$slm" agent demo --mcp "$work/three.json" "$paris"
result "$(grep -q 'It is 18' "$work/tty" && echo 1 || echo 0)" 'asked: no' "$work/tty"
ask q "$slm" agent demo --mcp "$work/three.json" "$paris"
asked 'asked: quit' 130 'quit: '

# ---- choosing tools, and what they cost ----
run agent demo --mcp "$work/three.json" --tools-cost --json
json 'costs add up' 'sum(t["tokens"] for t in d["tools"]) + d["frame_tokens"] == d["tokens"]'
json 'each costs something' 'len(d["tools"]) == 3 and all(40 < t["tokens"] < 120 for t in d["tools"]) and d["context"] == 1024'
cp "$work/out" "$work/costs"
run agent demo --mcp "$work/three.json" --yes --json 'What is the capital of Peru?'
with=$(python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(d["total"]["prompt_tokens"]-(0 if not d["calls"] else 10**6))' "$work/out")
run run demo --json 'What is the capital of Peru?'
python3 - "$with" "$work/out" "$work/costs" >"$work/show" 2>&1 <<'PYTHON'
import json, sys
without = json.load(open(sys.argv[2]))["usage"]["prompt_tokens"]
print(sys.argv[1], without, json.load(open(sys.argv[3]))["tokens"])
assert int(sys.argv[1]) - without == json.load(open(sys.argv[3]))["tokens"]
PYTHON
result $? 'the cost is what the prompt of a run grows by' "$work/show"
run agent demo --mcp "$work/three.json" --tools-cost
ends 'a table' 0
result "$(grep -qE '^ +[0-9]+ +[0-9.]+ % +search_web +home$' "$work/out" && echo 0 || echo 1)" 'a row of it' "$work/out"
run agent demo --mcp "$work/three.json" --tools-cost --json --allow-tool 'get_*' --allow-tool add
json '--allow-tool' '[t["name"] for t in d["tools"]] == ["get_weather", "add"]'
run agent demo --mcp "$work/three.json" --tools-cost --json --deny-tool 'home/get*'
json '--deny-tool' '[t["name"] for t in d["tools"]] == ["search_web", "add"]'
run agent demo --mcp "$work/three.json" --tools-cost --allow-tool add --deny-tool nothing
says 'a pattern that fits nothing' "no tool is called 'nothing'"
run agent demo --mcp "$work/three.json" --tools-cost --json --deny-tool '*'
json 'no tools left' 'd["error"]["code"] == "E_NOTFOUND" and "3" in d["error"]["message"]'
run agent demo --mcp "$work/three.json" --max-tools 2 x
ends '--max-tools' 1
says '--max-tools' 'there are 3 tools, --max-tools is 2; none was left out'
config twice --tools get_weather
python3 - "$work/twice.json" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1])); s = d["mcpServers"]; s["my other"] = dict(s["home"]); json.dump(d, open(sys.argv[1], "w"))
PYTHON
run agent demo --mcp "$work/twice.json" --tools-cost --json
json 'two servers with one name' '[t["name"] for t in d["tools"]] == ["home__get_weather", "my_other__get_weather"]'
config poison --tools get_weather,poison
run agent demo --mcp "$work/poison.json" --tools-cost --json
json 'control tokens in a description' '[t["name"] for t in d["tools"]] == ["get_weather"]'
says 'control tokens in a description' 'poison .* is left out: .* control tokens'

# ---- limits ----
config big --tools get_weather --bad big-result
run agent demo --mcp "$work/big.json" --yes --json --result-tokens 50 "$paris"
json 'a result is cut by tokens' 'd["calls"][0]["cut"] and d["calls"][0]["tokens"] == 50 and d["calls"][0]["bytes"] > 90000'
json 'and marked with both sizes' '__import__("re").search(r"\n\[cut here: \d+ of %d bytes are shown\]$" % d["calls"][0]["bytes"], d["calls"][0]["result"])'
json 'between characters' '"\ufffd" not in d["calls"][0]["result"]'
run agent demo --mcp "$work/big.json" --yes --json "$paris"
json 'without options at a quarter of the context' 'd["calls"][0]["tokens"] == 256'
run agent demo --mcp "$work/big.json" --yes --json --max-result 60 "$paris"
json 'a result is cut by bytes' 'len(d["calls"][0]["result"].split("\n[cut")[0].encode()) in (59, 60)'
says 'and that is said' 'the result of get_weather is cut'
edit big 's["slm"] = {"result_bytes": 45}'
run agent demo --mcp "$work/big.json" --yes --json "$paris"
json 'a limit of the server' 'd["calls"][0]["cut"] and len(d["calls"][0]["result"].split("\n[cut")[0]) <= 45'
run agent demo --mcp "$work/three.json" --yes --max-steps 1 "$paris"
ends '--max-steps' 1
says '--max-steps' 'still calls tools after 1 steps, --max-steps is 1'
config pair --tools get_weather,echo
again='What is the weather in Paris and what is the weather in Paris?'
run agent demo --mcp "$work/pair.json" --yes --think off --json "$again"
json 'the same call is made once' 'len(d["calls"]) == 2 and not d["calls"][0]["error"] and "made before" in d["calls"][1]["result"]'
run agent demo --mcp "$work/pair.json" --yes --think off --json --allow-repeats "$again"
json '--allow-repeats' 'len(d["calls"]) == 2 and d["calls"][0]["result"] == d["calls"][1]["result"]'
run agent demo --mcp "$work/three.json" --yes -c 250 "$paris"
ends 'a context that is too small' 1
says 'both numbers' 'the prompt of step 1 has [0-9]+ tokens, the context holds 250; nothing was dropped'
says 'and a way out' 'allow-tool PATTERN +the tools take 279 of them'
config crash --tools get_weather --bad crash
run agent demo --mcp "$work/crash.json" --yes --json "$paris"
json 'a server that dies' 'd["calls"][0]["error"] and "exit code 3" in d["calls"][0]["result"] and d["steps"] >= 2'
config slow --tools get_weather --bad slow --log "$work/slow.log"
edit slow 's["slm"] = {"call_timeout_s": 1}'
run agent demo --mcp "$work/slow.json" --yes --json "$paris"
json 'a server that is slow' '"in time" in d["calls"][0]["result"]'
config change --tools get_weather --bad change-on-call --era legacy
run agent demo --mcp "$work/change.json" --yes --transcript "$work/change.jsonl" "$paris"
prints 'tools that change' 'It is 18 degrees and sunny in Paris.'
says 'tools that change' 'the tools have changed'
result "$(python3 -c 'import json,sys; t=[json.loads(l) for l in open(sys.argv[1])]; sys.exit([len(e["tools"]) for e in t if e["event"]=="tools"] != [1,2])' "$work/change.jsonl" && echo 0 || echo 1)" 'tools that change: told anew' "$work/change.jsonl"

# ---- transcript ----
run agent demo --mcp "$work/three.json" --yes --transcript "$work/run.jsonl" "$paris"
prints 'a transcript changes nothing' 'It is 18 degrees and sunny in Paris.'
result "$([ "$(stat -c %a "$work/run.jsonl")" = 600 ] && echo 0 || echo 1)" 'for its owner alone'
python3 - "$work/run.jsonl" >"$work/show" 2>&1 <<'PYTHON'
import json, sys
t = [json.loads(line) for line in open(sys.argv[1])]
names = [e["event"] for e in t]
print(names)
assert names == ["start", "server", "tools", "request", "answer", "consent", "result", "request", "answer", "end"]
assert [e["t_ms"] for e in t] == sorted(e["t_ms"] for e in t)
assert t[0]["model"] == "demo" and t[0]["prompt"] == "What is the weather in Paris?"
assert t[1]["protocol"] == "2026-07-28" and t[1]["title"] == "test-server 1.0"
assert [x["function"]["name"] for x in t[2]["tools"]] == ["search_web", "get_weather", "add"] and t[2]["tokens"] == 279
assert t[3]["new_messages"] == [{"role": "user", "content": "What is the weather in Paris?"}]
call = t[4]["message"]["tool_calls"][0]
assert json.loads(call["function"]["arguments"]) == {"city": "Paris"} and t[4]["message"]["reasoning_content"]
assert t[5]["id"] == call["id"] == t[6]["id"] and t[5]["decision"] == "--yes"
assert json.loads(t[6]["result"]) == {"temperature": 18, "condition": "sunny"} and t[6]["wall_ms"] > 0
assert t[7]["new_messages"] == [{"role": "tool", "tool_call_id": call["id"], "name": "get_weather", "content": t[6]["result"]}]
assert t[8]["message"]["content"].strip() == "It is 18 degrees and sunny in Paris." and t[8]["usage"]["cached_tokens"] > 0
assert t[9]["exit_code"] == 0 and t[9]["steps"] == 2
PYTHON
result $? 'it has everything, in order' "$work/show"
ln -s "$work/elsewhere" "$work/link.jsonl"
run agent demo --mcp "$work/three.json" --yes --transcript "$work/link.jsonl" "$paris"
ends 'not through a link' 1
run agent demo --mcp "$work/three.json" --yes --transcript /dev/full "$paris"
ends 'not to a device' 1

# ---- signals: nothing is left behind ----
config hang --tools get_weather --bad slow --log "$work/hang.log"
for signal in INT TERM HUP; do
    rm -f "$work/hang.log"
    "$slm" agent demo --mcp "$work/hang.json" --yes "$paris" </dev/null >"$work/out" 2>"$work/err" &
    pid=$!
    for _ in $(seq 1000); do grep -q tools/call "$work/hang.log" 2>/dev/null && break; sleep 0.02; done
    child=$(pgrep -P $pid)
    kill -$signal $pid
    status=0
    wait $pid || status=$?
    ends "$signal during a call" 130
    result "$(kill -0 "$child" 2>/dev/null && echo 1 || echo 0)" "$signal during a call: its server is gone"
done
config stubborn --tools get_weather --bad stubborn --log "$work/stubborn.log"
run agent demo --mcp "$work/stubborn.json" --yes "$paris"
prints 'a server that does not end' 'It is 18 degrees and sunny in Paris.'
child=$(grep -o 'grandchild": [0-9]*' "$work/stubborn.log" | grep -o '[0-9]*')
sleep 0.2
result "$(ps -o stat= -p "$child" | grep -qv Z && echo 1 || echo 0)" 'nor its child'

# ---- refusals ----
run agent demo x
ends 'no --mcp' 2
run agent demo --mcp "$work/three.json"
ends 'no prompt' 2
run agent demo --mcp /nonexistent x
ends 'no file' 1
for case in '[]|no object' '{"servers":{}}|another program' '{"mcpServers":{}}|no server that is not disabled' \
    '{"mcpServers":{"a":{}}}|either "command" or "url"' '{"mcpServers":{"a":{"command":"x","url":"y"}}}|either' \
    '{"mcpServers":{"a":{"command":"true","env":{"K":"${SLM_NOT_SET}"}}}}|SLM_NOT_SET, which is not set' \
    '{"mcpServers":{"a":{"command":"/nonexistent"}}}|cannot be started' \
    '{"mcpServers":{"a":{"command":"true"},"a":{"command":"true"}}}|duplicate' \
    '{"mcpServers":{"a":{"type":"sse","url":"https://x/"}}}|not supported' 'x|JSON'; do
    echo "${case%%|*}" >"$work/bad.json"
    run agent demo --mcp "$work/bad.json" x
    ends "refused: ${case%%|*}" 1
    says "refused: ${case%%|*}" "${case#*|}"
done
cp "$work/three.json" "$work/odd.json"
edit odd 's["disabledTools"] = ["add"]; d["inputs"] = []'
run agent demo --mcp "$work/odd.json" --tools-cost
says 'keys without a meaning here' 'server .home.: "disabledTools" has no meaning here'
says 'keys without a meaning here' '"inputs" has no meaning here'
finish
