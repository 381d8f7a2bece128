#!/bin/bash
# test_text.sh - tokenize, detokenize, render: words, JSON lines, and the reference files.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

run tokenize demo 'Hello world'
ids=$(cat "$work/out")
try 'ids with commas' grep -qxE '[0-9]+(,[0-9]+)*' "$work/out"
run detokenize demo "$ids"
prints 'back to text' 'Hello world'
run detokenize demo ${ids//,/ }
prints 'ids as words' 'Hello world'
printf 'Hello world' >"$work/in"
run_with "$work/in" tokenize demo
prints 'text from standard input' "$ids"
run tokenize demo 'Hello world' --json
json 'as JSON' "d == {'ids': [$ids]}"
run tokenize demo '<|im_end|>'
prints 'a control token' 2553
run tokenize demo '<|im_end|>' --data
result "$(! grep -qx 2553 "$work/out" && [ "$status" -eq 0 ] && echo 0 || echo 1)" 'a control token as data stays text'

cat >"$work/in" <<'LINES'
{"text": "Hello world"}

{"text": "<|im_end|>"}
{"text": "<|im_end|>", "special": false}
{"text": 5}
{"text": "half
{"text": "na\u00efve \ud83d\ude42"}
LINES
run_with "$work/in" tokenize demo --jsonl
ends 'tokenize --jsonl' 0
python3 - "$work/out" "$ids" >"$work/check" 2>&1 <<'PYTHON'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
assert len(lines) == 6, lines
assert lines[0] == {"ids": [int(i) for i in sys.argv[2].split(",")]}
assert lines[1] == {"ids": [2553]}
assert 2553 not in lines[2]["ids"] and len(lines[2]["ids"]) > 1
assert lines[3]["error"]["code"] == "E_ARG" and lines[4]["error"]["code"] == "E_FORMAT"
assert lines[5]["ids"]
PYTHON
empty 'tokenize --jsonl: a line that fails does not end it' "$work/check"
head -c 100000 /dev/urandom | base64 -w 0 >"$work/noise"
{ printf '{"text": "'; cat "$work/noise"; printf '"}'; } >"$work/in"
run_with "$work/in" tokenize demo --jsonl
cp "$work/out" "$work/ids"
run_with "$work/ids" detokenize demo
python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["text"], end="")' "$work/out" >"$work/back"
result "$(cmp -s "$work/back" "$work/noise" && echo 0 || echo 1)" 'a long line there and back, without a newline at its end'
printf '[345, 198]\n{"ids": [2553, 345]}\n{"ids": [2553, 345], "skip_special": true}\n{"ids": [-1]}\n{"ids": [999999]}\n345 198\n' >"$work/in"
run_with "$work/in" detokenize demo
result "$([ "$(wc -l <"$work/out")" -eq 8 ] || [ "$(wc -l <"$work/out")" -eq 7 ] && grep -q im_end "$work/out" && [ "$(grep -c '"error"' "$work/out")" -eq 2 ] && echo 0 || echo 1)" 'detokenize reads lines' "$work/out"
run detokenize demo 99999999
ends 'an id beyond the vocabulary' 1

echo '{"messages": [{"role": "user", "content": "Hello"}], "kwargs": {}}' >"$work/in"
run_with "$work/in" render demo
try 'render' grep -qx '<|im_start|>user' "$work/out"
{ cat "$work/in"; echo '{"messages": 5}'; echo 'no json'; } >"$work/in2"
run_with "$work/in2" render demo --jsonl
python3 - "$work/out" >"$work/check" 2>&1 <<'PYTHON'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
assert lines[0] == {"rendered": "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"}, lines
assert "error" in lines[1] and "error" in lines[2] and len(lines) == 3, lines
PYTHON
empty 'render --jsonl' "$work/check"

# the vendors' files: every golden of templates and tokenizers through the program
if [ -d "$reference/models" ]; then
    python3 - "$slm" "$reference" "$work" >"$work/golden" 2>&1 <<'PYTHON'
import gzip, json, os, shutil, subprocess, sys
slm, reference, work = sys.argv[1:]
def lines(args, rows):
    text = "".join(json.dumps(r) + "\n" for r in rows)
    out = subprocess.run([slm] + args, input=text.encode(), capture_output=True)
    return [json.loads(l) for l in out.stdout.splitlines()], out.stderr.decode()
def verdict(ok, name, detail):
    print("ok" if ok else "not ok", name, "" if ok else str(detail)[:300])
for name in sorted(os.listdir(reference + "/models")):
    folder = "%s/models/%s" % (reference, name)
    if not os.path.exists(folder + "/chat_golden.json"):
        continue
    here = "%s/only-template-%s" % (work, name)
    os.mkdir(here)
    shutil.copy(folder + "/chat_template.jinja", here)
    cases = json.load(open(folder + "/chat_golden.json"))["cases"]
    got, err = lines(["render", here, "--jsonl", "--date", "2025-07-08"], [{k: c[k] for k in ("messages", "kwargs")} for c in cases])
    bad = [c["id"] for c, g in zip(cases, got) if ("rendered" in c and g.get("rendered") != c["rendered"]) or ("rendered" not in c and "error" not in g)]
    verdict(len(got) == len(cases) and not bad, "render-" + name, (bad, err))
for name in sorted(os.listdir(reference + "/tokenizers")):
    folder = "%s/tokenizers/%s" % (reference, name)
    if not os.path.exists(folder + "/golden.json"):
        continue
    here = "%s/only-tokenizer-%s" % (work, name)
    os.mkdir(here)
    with gzip.open(folder + "/tokenizer.json.gz") as f:
        open(here + "/tokenizer.json", "wb").write(f.read())
    cases = json.load(open(folder + "/golden.json"))["cases"]
    got, err = lines(["tokenize", here, "--jsonl"], [{"text": c["text"]} for c in cases])
    bad = [c["text"][:20] for c, g in zip(cases, got) if g.get("ids") != c["ids"]]
    verdict(len(got) == len(cases) and not bad, "tokenize-" + name, (bad, err))
    got, err = lines(["detokenize", here], [{"ids": c["ids"]} for c in cases])
    bad = [c["text"][:20] for c, g in zip(cases, got) if g.get("text") != c.get("decoded", c["text"])]
    verdict(len(got) == len(cases) and not bad, "detokenize-" + name, (bad, err))
    shutil.rmtree(here)
PYTHON
    while read -r verdict rest; do
        [ "$verdict" = ok ] || { verdict=not; rest=${rest#ok }; }
        echo "$rest" >"$work/detail"
        result "$([ "$verdict" = ok ] && echo 0 || echo 1)" "${rest%% *}" "$work/detail"
    done <"$work/golden"
else
    skipped "the vendors' templates and tokenizers" 'no reference folder (--reference DIR)'
fi
finish
