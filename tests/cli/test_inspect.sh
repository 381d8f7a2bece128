#!/bin/bash
# test_inspect.sh - slm alone, models, plan, info, logits.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

narrow() { # NAME: the last output fits 80 columns
    python3 -c 'import sys
for line in open(sys.argv[1], encoding="utf-8"):
    if len(line.rstrip("\n")) > 80: print(line)' "$work/out" >"$work/wide"
    empty "$1 fits 80 columns" "$work/wide"
}
run
ends 'slm alone without a terminal' 0
try 'slm alone: the machine' grep -qE '^slm [0-9.]+ on .*threads?, memory ' "$work/out"
try 'slm alone: the demo model' grep -qE '^demo .*built in' "$work/out"
run --json
json 'slm alone as JSON' 'd["machine"]["threads"] >= 1 and d["best"] == "demo" and len(d["models"]) >= 8'
run models
narrow 'models'
result "$([ "$(wc -l <"$work/out")" -ge 9 ] && echo 0 || echo 1)" 'models lists them'
run models --json
json 'models as JSON' 'all(m["licence"] and m["context"] for m in d if not m["builtin"]) and len(d) >= 8'
for id in $("$slm" models | awk 'NR > 1 {print $1}'); do
    run models "$id"
    narrow "card of $id"
done

run plan demo
narrow plan
ends plan 0
run plan demo --json --context 256,512,1024 --kv f32
json 'plan as JSON' '[p["context"] for p in d["plans"]] == [256, 512, 1024] and d["basis"] == "plan"'
json 'keys and values grow with the context' '3.9 < d["plans"][2]["kv"] / d["plans"][0]["kv"] < 4.1'
json 'total is the sum' 'all(p["total"] >= p["kv"] + p["scratch"] for p in d["plans"])'
run plan qwen3-0.6b --json
json 'a model that is not on disk is estimated' 'd["basis"] == "estimate" and d["plans"][0]["kv"] == 2048 * 28 * 8 * 128 * 2 * 2'
run plan qwen3-0.6b --max-memory 900M
ends 'a ladder of which a part fits' 0
run plan qwen3-0.6b --max-memory 900M --context 40960
ends 'a context that does not fit' 4
says 'what would fit' '--context [0-9]+ +the largest that fits'

mkdir -p "$work/nothing"
run info "$work/nothing"
ends "info of an empty folder" 1
says "info of an empty folder" "holds nothing of a model"
run info demo
ends info 0
run info demo-model --json --tensors --meta
json 'info as JSON' 'd["container"] == "safetensors" and d["trust"] == "verified" and d["params"] == 4984832 and d["template"] and d["tokenizer"]'
json 'tensors' 'len(d["tensor_list"]) == d["tensors"] and any(t["name"] == "model.embed_tokens.weight" and t["shape"] == [2560, 256] and t["type"] == "BF16" for t in d["tensor_list"])'
run info demo --tensors
try 'tensors as text' grep -qE '^tensor +model.norm.weight +BF16 +256 ' "$work/out"

python3 - "$slm" "$work" >"$work/check" 2>&1 <<'PYTHON'
import ast, json, struct, subprocess, sys
slm, work = sys.argv[1:]
def logits(*args):
    out = subprocess.run([slm, "logits", "demo", *args], capture_output=True)
    assert out.returncode == 0, out.stderr
    return out.stdout
def read(data):
    assert data[:8] == b"\x93NUMPY\x01\x00"
    n = struct.unpack("<H", data[8:10])[0]
    assert (10 + n) % 64 == 0 and data[9 + n : 10 + n] == b"\n"
    head = ast.literal_eval(data[10 : 10 + n].decode())
    assert head["descr"] == "<f4" and head["fortran_order"] is False
    rows, cols = head["shape"]
    assert len(data) == 10 + n + rows * cols * 4
    return rows, cols, struct.unpack("<%df" % (rows * cols), data[10 + n :])
for case in json.load(open("demo-model/golden.json"))["cases"][:6]:
    ids = ",".join(map(str, case["prompt_ids"]))
    rows, cols, exact = read(logits("--ids", ids, "--rows", "last", "--exact"))
    assert (rows, cols) == (1, 2560)
    worst = max(abs(a - b) for a, b in zip(exact, case["last_logits"]))
    assert worst < 2e-3, (case["id"], worst)
    whole = logits("--ids", ids)
    rows, cols, every = read(whole)
    assert rows == len(case["prompt_ids"])
    for split in ("1", "7", "5,1", "64", "3,2,4"):
        assert logits("--ids", ids, "--split", split) == whole, split
    assert logits("--ids", ids, "--threads", "1") == whole
    assert read(logits("--ids", ids, "--rows", "last"))[2] == every[-cols:]
    assert read(logits("--ids", ids, "--hidden"))[:2] == (rows, 256)
    last = read(logits("--ids", ids, "--hidden", "--rows", "last", "--split", "4"))
    assert last[2] == read(logits("--ids", ids, "--hidden"))[2][-256:]
    for kv in ("f32", "f16", "bf16"):
        got = read(logits("--ids", ids, "--kv", kv, "--rows", "last"))[2]
        assert max(abs(a - b) for a, b in zip(got, case["last_logits"])) < 1.0, kv
    path = work + "/l.npy"
    assert logits("--ids", ids, "--out", path) == b""
    assert open(path, "rb").read() == whole
from_input = subprocess.run([slm, "logits", "demo", "--ids", "-"], input=b"1 2\n3\n", capture_output=True).stdout
assert from_input == logits("--ids", "1,2,3")
PYTHON
empty 'logits: golden values, the same bits in every split, thread count and file' "$work/check"
run logits demo --ids 1,2 --out "$work/none/x.npy"
ends 'logits to a folder that is not there' 1
finish
