#!/bin/bash
# test_chat.sh - conversations: the line protocol, commands, saving, resuming after kill -9.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

talk() { # LINES ARGS...: a chat whose input are these lines
    printf '%s\n' "$1" >"$work/in"
    shift
    run_with "$work/in" chat "$@"
}
talk 'My name is Marco.
What is my name?' demo --think off
try 'history reaches the model' grep -q 'Marco' <(tail -n 1 "$work/out")
silent 'a chat'
talk 'What is 47 * 36?' demo --json
json 'a turn as JSON' 'd["answer"] == "1692" and d["reasoning"] and d["conversation"] > 0 and d["receipt"]["dropped"] == 0'

talk '/think off
What is 47 * 36?
/stats
/nonsense
/think
//help' demo --no-save
says 'an unknown command' 'there is no /nonsense'
try 'stats' grep -qE '^context +[0-9]+ of 1,024' "$work/out"
try 'stats after /think off' grep -qE ', 0 of them reasoning' "$work/out"
talk '/help
/quit
never' demo --no-save
try 'help in the chat' grep -q '^/system TEXT' "$work/out"
result "$([ "$(wc -l <"$work/out")" -lt 15 ] && echo 0 || echo 1)" 'quit ends it' "$work/out"
talk 'What is the capital \
of Peru?' demo --no-save --think off
prints 'a backslash goes on' 'The capital of Peru is Lima.'
talk '"""
What is the capital of Peru?
"""' demo --no-save --think off
prints 'a block is one message' 'The capital of Peru is Lima.'
talk '/system You are a helpful assistant.
What is the capital of Japan?' demo --no-save --json
json 'a system message' '"Tokyo" in d["answer"] and d["usage"]["prompt_tokens"] > 20'
long=$(head -c 9000 /dev/zero | sed 's/\x0/a /g')
talk "$long
What is the capital of Peru?" demo --no-save --think off
ends 'a message that does not fit' 1
says 'a message that does not fit' 'the context holds 1,024; nothing was dropped'
try 'the chat goes on after it' grep -q Lima "$work/out"

cat >"$work/tools.json" <<'TOOLS'
[{"type": "function", "function": {"name": "get_weather", "description": "Get the weather in a city",
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
TOOLS
talk 'What is the weather in Oslo?
/save weather' demo --think off --tools "$work/tools.json"
prints 'a call of a tool' '[call] get_weather {"city": "Oslo"}'
talk 'What is the capital of Peru?' demo --resume=weather --think off --tools "$work/tools.json" --json
json 'a call that was saved is part of the history' 'd["usage"]["prompt_tokens"] > 180'
talk 'Hello
Who are you?' demo --no-save --think off --choices yes,no
try 'every turn is held to the choices' test "$(grep -cxE 'yes|no' "$work/out")" = 2

# saved, named, listed, resumed
talk 'My name is Marco.
/save friend' demo --think off
says 'a name' "is now 'friend'"
run chat --list
try 'list' grep -q 'friend' "$work/out"
talk 'What is my name?' demo --resume=friend --think off
try 'resumed by name' grep -q Marco "$work/out"
talk 'Hello' demo --think off
talk '/load friend
What is my name?' demo --think off
try 'loaded inside a chat' grep -q Marco "$work/out"
run chat --resume=nobody demo
ends 'resuming what is not there' 1
talk 'What is my name?' --resume=friend --think off
try 'resume without a model takes the conversation'"'"'s' grep -q Marco "$work/out"
run chat --list --json
json 'list as JSON' 'any(r["name"] == "friend" and r["model"] == "demo" and r["turns"] >= 2 for r in d)'
run chat --delete friend
run chat --list
result "$(! grep -q friend "$work/out" && echo 0 || echo 1)" 'deleted'
talk 'Hello' demo --no-save
run chat --list --json
cp "$work/out" "$work/before"
talk 'Hello' demo --no-save
run chat --list --json
result "$(cmp -s "$work/before" "$work/out" && echo 0 || echo 1)" 'no-save keeps nothing'

# kill -9 in the middle of an answer: every finished turn is there
python3 - "$slm" >"$work/killed" 2>&1 <<'PYTHON'
import json, os, signal, subprocess, sys
slm = sys.argv[1]
args = [slm, "chat", "demo", "--json", "--think", "off"]
p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
names = []
for text in ("My name is Marco.", "Hello"):
    p.stdin.write(text.encode() + b"\n")
    p.stdin.flush()
    names.append(json.loads(p.stdout.readline())["conversation"])
p.stdin.write(b"What is 4587 + 968?\n")
p.stdin.flush()
p.send_signal(signal.SIGKILL)
p.wait()
assert names[0] == names[1], names
p = subprocess.run(args + ["--resume=%d" % names[0]], input=b"What is my name?\n", capture_output=True)
d = json.loads(p.stdout)
assert "Marco" in d["answer"], d
assert d["conversation"] == names[0], d
assert b"2 turns" in p.stderr or b"3 turns" in p.stderr, p.stderr
print("fine")
PYTHON
result "$(grep -qx fine "$work/killed" && echo 0 || echo 1)" 'a killed chat resumes with every finished turn' "$work/killed"

# several chats at once on one file
for i in 1 2 3 4; do
    printf 'Hello\nWho are you?\n' | timeout 60 "$slm" chat demo --think off >"$work/out.$i" 2>"$work/err.$i" &
done
wait
cat "$work"/err.? >"$work/errors"
empty 'chats side by side' "$work/errors"
result "$(cmp -s "$work/out.1" "$work/out.4" && echo 0 || echo 1)" 'with the same answers'

# Ctrl-C during an answer on a terminal: the chat goes on, the turn is kept
if command -v expect >/dev/null; then
    cat >"$work/script.exp" <<'EXPECT'
set timeout 30
spawn -noecho [lindex $argv 0] chat demo --temp 1.2 --top-k 0 --logit-bias 2553=-inf --logit-bias 2551=-inf
expect "> "
send "Hello\r"
expect -re {[a-z]+ [a-z]+}
after 200
send "\003"
expect "\n> "
send "/stats\r"
expect -re {context +[0-9,]+ of 1,024}
expect "> "
send "\003"
expect "Ctrl-C again"
expect "> "
send "/think off\r"
expect "> "
send "\004"
expect eof
lassign [wait] pid spawn_id os value
exit $value
EXPECT
    status=0
    expect -f "$work/script.exp" "$slm" >"$work/out" 2>"$work/err" || status=$?
    ends 'a chat on a terminal with Ctrl-C' 0
    run chat --list --json
    json 'the stopped answer was kept' 'd[0]["turns"] == 1 and d[0]["first"] == "Hello"'
else
    skipped 'a chat on a terminal with Ctrl-C' 'expect is not installed'
fi
finish
