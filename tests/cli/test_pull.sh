#!/bin/bash
# test_pull.sh - slm pull against a hub of the tests' own (hub_server.c): the good case, every fault
# that a network, a disk or a hostile hub can bring, and what is in the cache afterwards.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

unset HF_ENDPOINT HF_TOKEN HF_HUB_OFFLINE HF_HOME http_proxy https_proxy all_proxy ALL_PROXY HTTPS_PROXY
read -ra libraries < <(pkg-config --cflags --libs libmicrohttpd gnutls 2>/dev/null | tr '\n' ' ')
if ! "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O1 tests/cli/hub_server.c -o "$work/hub_server" -pthread \
    "${libraries[@]}" >"$work/cc.log" 2>&1; then
    skipped 'slm pull' "the tests' hub needs libmicrohttpd and gnutls"
    finish
fi
cp -r demo-model "$work/repo"
# a file in a name of the table, so that a pull by id can be tried
head -c 1500000 demo-model/model.safetensors >"$work/repo/Qwen3-0.6B-Q8_0.gguf"
head -c 1200000 demo-model/model.safetensors >"$work/repo/gemma-3-4b-it-Q4_K_M.gguf"
head -c 5000 demo-model/model.safetensors >"$work/repo/mmproj-model-f16.gguf"
"$work/hub_server" "$work/repo" "$work/log" >"$work/ports" &
hub=$!
trap 'kill $hub 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 50); do [ -s "$work/ports" ] && break; sleep 0.1; done
read -r hub_port _ <"$work/ports"

export HF_ENDPOINT=http://127.0.0.1:$hub_port HF_HUB_CACHE=$work/cache HF_TOKEN=hf_testtoken
export SLM_HUB_WAIT_MS=10 SLM_HUB_STALL_S=1
commit=0123456789abcdef0123456789abcdef01234567
sha=$(sha256sum "$work/repo/model.safetensors" | cut -d' ' -f1)
size=$(stat -c %s "$work/repo/model.safetensors")

fresh() { rm -rf "$work/cache"; : >"$work/log"; }
requests() { grep -c -- "$1" "$work/log"; }
# whole NAME MODE: the weights are in the cache of org/MODE, linked, right, and nothing is left over
whole() {
    local dir=$work/cache/models--org--$2 ok=1
    [ "$(readlink "$dir/snapshots/$commit/model.safetensors")" = "../../blobs/$sha" ] &&
        cmp -s "$dir/blobs/$sha" "$work/repo/model.safetensors" &&
        [ -z "$(find "$dir" -name '*.incomplete' -o -name '.slm-*')" ] && ok=0
    find "$dir" -ls >"$work/tree" 2>&1
    result $ok "$1: the file is whole in the cache" "$work/tree"
}
# honest NAME MODE: every blob is what its name says, so no bad file has got one
honest() {
    local ok=0
    python3 - "$work/cache/models--org--$2/blobs" >"$work/tree" 2>&1 <<'PYTHON' || ok=1
import hashlib, os, sys
bad = 0
for name in os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else []:
    data = open(os.path.join(sys.argv[1], name), "rb").read()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if not name.endswith(".incomplete") and name not in (git, hashlib.sha256(data).hexdigest()):
        print(name)
        bad = 1
sys.exit(bad)
PYTHON
    result $ok "$1: no file under a name that is not its hash" "$work/tree"
}

# ---- the good case
fresh
run pull org/normal --dry-run
ends 'dry run' 0
try 'a dry run lists the files' grep -q 'model.safetensors' "$work/out"
result "$([ ! -e "$work/cache" ] && echo 0 || echo 1)" 'a dry run makes nothing'
run pull org/normal --json
json 'pull' 'd["complete"] and d["commit"].startswith("0123") and d["licence"] == "apache-2.0" and d["fetched_bytes"] == d["total_bytes"]'
json 'pull: only what a model needs' 'sorted(f["file"] for f in d["files"]) == ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]'
path=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["path"])' "$work/out")
whole 'pull' normal
try 'refs/main names the commit' grep -qx "$commit" "$work/cache/models--org--normal/refs/main"
result "$([ "$(requests '^cdn .*auth=-')" -eq 1 ] && [ "$(requests '^cdn .*hf_testtoken')" -eq 0 ] && echo 0 || echo 1)" \
    'the token does not follow a redirect to another port' "$work/log"
result "$([ "$(requests '^hub .*auth=Bearer hf_testtoken')" -eq "$(requests '^hub')" ] && echo 0 || echo 1)" 'the hub gets the token' "$work/log"
result "$([ "$(requests 'encoding=identity')" -eq "$(wc -l <"$work/log")" ] && echo 0 || echo 1)" 'no compression is asked for' "$work/log"
result "$([ "$(find "$work/cache/models--org--normal/blobs" -type f | wc -l)" -eq 6 ] && echo 0 || echo 1)" 'six blobs'
honest 'pull' normal
: >"$work/log"
run pull org/normal --json
json 'a second pull fetches nothing' 'd["fetched_bytes"] == 0 and all(f["status"] == "present" for f in d["files"])'
result "$([ "$(requests resolve)" -eq 0 ] && echo 0 || echo 1)" 'a second pull asks for the list only' "$work/log"
run run "$path" 'What is the capital of France?' --greedy
prints 'slm run with the pulled folder' 'The capital of France is Paris.'

fresh
HF_TOKEN='' run pull org/direct
ends 'without a token, without a redirect' 0
whole 'direct' direct
try 'no token, no header' grep -q 'auth=-' "$work/log"
run pull org/normal --file config.json --json
json 'one file' '[f["file"] for f in d["files"]] == ["config.json"] and d["path"].endswith("/config.json")'
run pull org/normal --file nothing.bin
ends 'a file that is not there' 1
run pull org/normal --revision pr/1 --file config.json
ends 'a revision with a slash' 0
try 'its ref is in a folder' grep -qx "$commit" "$work/cache/models--org--normal/refs/pr/1"
result "$([ "$(requests 'revision/pr%2F1\|revision/pr/1')" -ge 1 ] && echo 0 || echo 1)" 'and was asked for' "$work/log"
run pull org/normal --revision nothing
ends 'no such revision' 1
says 'no such revision' "no revision 'nothing'"

# ---- by id: repositories of the table, served under their own names
fresh
run pull qwen3-0.6b --json
json 'by id' 'd["repo"] == "Qwen/Qwen3-0.6B-GGUF" and [f["file"] for f in d["files"]] == ["Qwen3-0.6B-Q8_0.gguf"] and d["licence"].lower() == "apache-2.0"'
run models qwen3-0.6b
try 'slm models finds it' grep -q 'Hugging Face cache' "$work/out"
run pull qwen3-0.6b --quant safetensors --dry-run --json
json "the maker's repository" 'd["repo"] == "Qwen/Qwen3-0.6B" and "model.safetensors" in [f["file"] for f in d["files"]] and not d["complete"]'
run pull qwen3-0.6b --quant bf16 --dry-run --json
json 'bf16 is that too' 'd["repo"] == "Qwen/Qwen3-0.6B"'
run pull gemma-3-4b-it --quant q4_k_m --json
json 'an image tower comes along' 'sorted(f["file"] for f in d["files"]) == ["gemma-3-4b-it-Q4_K_M.gguf", "mmproj-model-f16.gguf"] and d["path"].endswith("Q4_K_M.gguf")'
run pull qwen3-0.6b --quant q3_k_m
ends 'a type that is not there' 1
says 'a type that is not there: which are' '--quant q8_0'
run pull org/normal --quant q4_k_m --json
json 'a type of any repository' '[f["file"] for f in d["files"]] == ["gemma-3-4b-it-Q4_K_M.gguf"]'
run pull qwen3-0.6b --repo org/normal --quant q8_0 --json
json 'another repository for an id' 'd["repo"] == "org/normal" and d["files"][0]["file"] == "Qwen3-0.6B-Q8_0.gguf"'
run pull qwen4
ends 'an unknown id' 1
run pull demo
ends 'the built-in model' 0
for bad in 'org/../x' 'org/.x' 'a/b/c' 'org/x--y' $'org/x\ny' '/x' 'org/'; do
    run pull "$bad"
    result "$([ "$status" -ne 0 ] && [ "$status" -ne 139 ] && echo 0 || echo 1)" "repository '$(printf %q "$bad")' is refused"
done
run pull org/normal --revision ../../x
ends 'a revision that leads out' 2
run pull org/normal --file ../../x
ends 'a file that leads out' 2

# ---- faults that are survived
for mode in cut no-range lie changed changed-lie always-416 no-etag short-chunked file-503 limited-twice broken-once slow-once paged; do
    fresh
    run pull "org/$mode"
    ends "$mode" 0
    whole "$mode" "$mode"
    case $mode in
    cut | no-etag)
        result "$([ "$(requests "^cdn .*range=bytes=$((size / 3))-")" -eq 1 ] && [ "$(requests '^cdn')" -eq 2 ] && echo 0 || echo 1)" "$mode: goes on where it was cut" "$work/log" ;;
    no-range) says $mode 'starts over' ;;
    lie) says $mode 'another part than was asked for' ;;
    changed) result "$([ "$(requests '^cdn .*ifrange="')" -eq 1 ] && echo 0 || echo 1)" 'changed: asked with If-Range' "$work/log" ;;
    changed-lie) says $mode 'changed on the server' ;;
    slow-once) says $mode 'less than [0-9]+ bytes per second' ;;
    limited-twice) says $mode '429; again in 1 s' ;;
    esac
done

# ---- faults that end it, each with its reason and without a bad file
ends_with_reason() { # MODE CODE PATTERN
    fresh
    local start=$SECONDS
    run pull "org/$1"
    ends "$1" 1
    says "$1" "$3"
    run pull "org/$1" --json
    json "$1 as JSON" "d['error']['code'] == '$2'"
    honest "$1" "$1"
    result "$([ $((SECONDS - start)) -le 40 ] && echo 0 || echo 1)" "$1: ends soon"
}
ends_with_reason wrong-size E_FORMAT "have to come by the hub's list, the server has $size"
ends_with_reason longer E_FORMAT 'sends more of model.safetensors'
ends_with_reason wrong-hash E_CHECKSUM 'wrong hash'
ends_with_reason wrong-sha1 E_CHECKSUM 'config.json has the wrong hash'
ends_with_reason linked-size E_FORMAT 'in its answer'
ends_with_reason gzip E_FORMAT "content-encoding 'gzip'"
ends_with_reason gzip-list E_FORMAT "content-encoding 'gzip'"
ends_with_reason cut-always E_NET 'closed with .* remaining'
ends_with_reason slow E_NET 'less than 1024 bytes per second for 1 s'
ends_with_reason gated E_NET 'refuses access to org/gated \(status 403'
ends_with_reason private E_NOTFOUND 'no org/private'
ends_with_reason missing E_NOTFOUND 'Repository not found'
ends_with_reason limited E_NET 'too many requests'
ends_with_reason patience E_NET 'asks to wait 24 h'
ends_with_reason broken E_NET 'answered 500.*\?\[31mred'
ends_with_reason to-file E_FORMAT 'redirects to an address that is not accepted'
ends_with_reason to-plain E_FORMAT 'redirects to an address that is not accepted'
ends_with_reason to-user E_FORMAT 'redirects to an address that is not accepted'
ends_with_reason round E_FORMAT 'redirects more than 8 times'
ends_with_reason next-elsewhere E_FORMAT 'next page .* is elsewhere'
ends_with_reason endless E_BUDGET 'more than (200 pages|20000 files)'
ends_with_reason bad-json E_FORMAT '.'
ends_with_reason bad-commit E_FORMAT 'no commit of 40 hex digits'
ends_with_reason no-commit E_FORMAT 'no commit of 40 hex digits'
for mode in dots inner absolute control hash lfs size huge float type object; do
    ends_with_reason evil-$mode E_FORMAT 'hub'
done
ends_with_reason evil-zero E_FORMAT '.'
ends_with_reason evil-twice E_FORMAT '.'
ends_with_reason evil-utf8 E_ENCODING 'invalid UTF-8'
ends_with_reason evil-deep E_BUDGET 'nested deeper'
find "$work" /tmp/evil -newer "$work/ports" -name 'evil*' >"$work/found" 2>/dev/null
empty 'nothing was written outside the cache' "$work/found"
fresh
HF_TOKEN='' run pull org/private
ends 'private, without a token' 1
says 'private, without a token: how to get in' 'set HF_TOKEN'
run pull org/gated
says 'gated: the terms' 'accept the licence terms'

# ---- killed, interrupted, two at once
fresh
"$slm" pull org/steady >/dev/null 2>&1 &
pid=$!
for _ in $(seq 100); do
    part=$(stat -c %s "$work/cache/models--org--steady/blobs/$sha.incomplete" 2>/dev/null || echo 0)
    [ "$part" -gt 2000000 ] && break
    sleep 0.05
done
kill -9 $pid
wait $pid 2>/dev/null
part=$(stat -c %s "$work/cache/models--org--steady/blobs/$sha.incomplete" 2>/dev/null || echo 0)
result "$([ "$part" -gt 2000000 ] && [ "$part" -lt "$size" ] && echo 0 || echo 1)" "a killed pull leaves its part ($part of $size)"
: >"$work/log"
run pull org/steady --json
json 'a killed pull goes on' "d['fetched_bytes'] <= d['total_bytes'] - $part and [f['status'] for f in d['files'] if f['file'] == 'model.safetensors'] == ['resumed']"
try 'with a range' grep -q "range=bytes=$part-" "$work/log"
whole 'killed and resumed' steady

fresh
"$slm" pull org/steady >"$work/out" 2>"$work/err" &
pid=$!
sleep 0.6
kill -INT $pid
status=0
wait $pid || status=$?
ends 'Ctrl-C' 130
says 'Ctrl-C' 'the same command goes on'
: >"$work/log"
run pull org/steady
ends 'after Ctrl-C' 0
whole 'after Ctrl-C' steady

fresh
mkdir -p "$work/cache/models--org--normal/blobs"
head -c 3000000 /dev/zero >"$work/cache/models--org--normal/blobs/$sha.incomplete"
run pull org/normal
ends 'a part with other bytes' 0
says 'a part with other bytes' 'what an earlier run left cannot be used'
whole 'a part with other bytes' normal
fresh
mkdir -p "$work/cache/models--org--normal/blobs"
cp "$work/repo/model.safetensors" "$work/cache/models--org--normal/blobs/$sha.incomplete"
run pull org/normal
ends 'a part that is already whole' 0
result "$([ "$(requests '^cdn')" -eq 0 ] && echo 0 || echo 1)" 'a whole part is only checked' "$work/log"
whole 'a part that is already whole' normal
fresh
mkdir -p "$work/cache/models--org--normal/blobs"
head -c $((size + 10)) /dev/zero >"$work/cache/models--org--normal/blobs/$sha.incomplete"
run pull org/normal
ends 'a part that is too long' 0
whole 'a part that is too long' normal
fresh
mkdir -p "$work/cache/models--org--normal/blobs" "$work/elsewhere"
ln -s "$work/elsewhere/target" "$work/cache/models--org--normal/blobs/$sha.incomplete"
run pull org/normal
ends 'a part that is a link' 1
result "$([ -z "$(ls "$work/elsewhere")" ] && echo 0 || echo 1)" 'a link in the cache is not followed'
fresh
mkdir -p "$work/cache/models--org--normal"
ln -s "$work/elsewhere" "$work/cache/models--org--normal/snapshots"
run pull org/normal
ends 'a folder that is a link' 1
result "$([ -z "$(ls "$work/elsewhere")" ] && echo 0 || echo 1)" 'a linked folder is not followed'

fresh
"$slm" pull org/steady >"$work/out1" 2>"$work/err1" &
one=$!
sleep 0.2
"$slm" pull org/steady >"$work/out2" 2>"$work/err2" &
two=$!
ok=0
wait $one || ok=1
wait $two || ok=1
cat "$work"/err[12] >"$work/both"
result $ok 'two pulls at once both end well' "$work/both"
result "$([ "$(requests '^cdn .*model.safetensors')" -eq 1 ] && echo 0 || echo 1)" 'two pulls at once fetch once' "$work/log"
try 'the second one says that it waits' grep -q 'another program' "$work/both"
whole 'two at once' steady

# ---- on a terminal: a question, and a line with rate and time left
cat >"$work/terminal.py" <<'PYTHON'
import os, pty, sys
answer, command = sys.argv[1].encode(), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.execv(command[0], command)
seen = b""
while True:
    try:
        got = os.read(fd, 4096)
    except OSError:
        got = b""
    if not got:
        break
    seen += got
    if answer and seen.endswith(b"[Y/n] "):
        os.write(fd, answer + b"\n")
        answer = b""
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(seen)
sys.exit(status)
PYTHON
fresh
status=0
timeout 60 python3 "$work/terminal.py" n "$slm" pull org/normal >"$work/out" 2>"$work/err" || status=$?
ends 'the question, answered with no' 1
try 'the question has the size' grep -q 'fetch 9.7 MiB? \[Y/n\]' "$work/out"
result "$([ ! -e "$work/cache" ] && echo 0 || echo 1)" 'no means that nothing is made'
status=0
timeout 60 python3 "$work/terminal.py" y "$slm" pull org/steady >"$work/out" 2>"$work/err" || status=$?
ends 'the question, answered with yes' 0
try 'progress with rate and time left' grep -qE 'fetch +[0-9]+ %  [0-9.]+ [KM]iB of 9.7 MiB, [0-9.]+ [KM]iB/s, [0-9]+ s left' "$work/out"
whole 'on a terminal' steady
fresh
status=0
timeout 60 python3 "$work/terminal.py" '' "$slm" pull org/normal --yes >"$work/out" 2>"$work/err" || status=$?
ends '--yes does not ask' 0
result "$(grep -q 'Y/n' "$work/out" && echo 1 || echo 0)" '--yes does not ask at all'

# ---- a full disk
fresh
(ulimit -f 3000; timeout 60 "$slm" pull org/normal >"$work/out" 2>"$work/err"; echo $? >"$work/status")
status=$(cat "$work/status")
ends 'a full disk' 1
says 'a full disk' 'the disk is full after .* of 9.5 MiB of model.safetensors'
says 'a full disk: the way out' 'HF_HUB_CACHE'
part=$(stat -c %s "$work/cache/models--org--normal/blobs/$sha.incomplete" 2>/dev/null || echo 0)
result "$([ "$part" -eq 3072000 ] && echo 0 || echo 1)" "a full disk keeps the part ($part)"
run pull org/normal --json
json 'after making room' "d['fetched_bytes'] < $size"
whole 'after making room' normal
if [ "$(id -u)" -eq 0 ] && mkdir -p "$work/small" && mount -t tmpfs -o size=4m none "$work/small" 2>/dev/null; then
    HF_HUB_CACHE=$work/small/hub run pull org/normal
    ends 'a disk that is too small' 1
    says 'a disk that is too small: both numbers' '9.7 MiB more are needed, .* has [0-9.]+ MiB free'
    result "$([ -z "$(find "$work/small" -name '*.incomplete')" ] && echo 0 || echo 1)" 'a disk that is too small: nothing is begun'
    umount "$work/small"
else
    skipped 'a disk that is too small' 'a small disk cannot be mounted here'
fi
fresh
: >"$work/file"
HF_HUB_CACHE=$work/file/hub run pull org/normal
ends 'a cache that cannot be made' 1
says 'a cache that cannot be made' 'cannot make the folder'

# ---- offline, other hubs, other places
fresh
HF_HUB_OFFLINE=1 run pull org/normal
ends 'offline and not there' 1
says 'offline and not there' 'HF_HUB_OFFLINE is set, and org/normal is not complete'
run pull org/normal
: >"$work/log"
HF_HUB_OFFLINE=1 run pull org/normal --json
json 'offline and there' 'd["complete"] and d["fetched_bytes"] == 0 and d["path"].endswith("0123456789abcdef0123456789abcdef01234567")'
empty 'offline asks nobody' "$work/log"
HF_HUB_OFFLINE=1 run pull org/normal --quant q8_0
ends 'offline, another type' 1
rm "$work/cache/models--org--normal/snapshots/$commit/model.safetensors"
HF_HUB_OFFLINE=1 run pull org/normal
ends 'offline and not whole' 1
fresh
HF_HUB_CACHE='' HF_HOME=$work/hf run pull org/normal --file config.json
result "$([ -e "$work/hf/hub/models--org--normal/refs/main" ] && echo 0 || echo 1)" 'HF_HOME'
HF_ENDPOINT=http://example.invalid run pull org/normal
ends 'plain HTTP to another machine' 2
says 'plain HTTP to another machine' 'is not https'
HF_ENDPOINT=http://127.0.0.1.example.invalid run pull org/normal
ends 'a name that looks like this machine' 2
HF_ENDPOINT=file:///etc run pull org/normal
ends 'a file as hub' 2
HF_ENDPOINT=https://user:word@localhost run pull org/normal
ends 'a password in the address' 2
HF_TOKEN=$'a\r\nX-Evil: 1' run pull org/normal
ends 'a token with a line end' 2
HF_ENDPOINT=http://127.0.0.1:1 run pull org/normal
ends 'nobody answers' 1
says 'nobody answers' 'check the network and HF_ENDPOINT'
grep -l hf_testtoken "$work"/out "$work"/err >"$work/leak" 2>/dev/null
empty 'the token is never printed' "$work/leak"
finish
