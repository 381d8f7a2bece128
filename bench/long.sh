#!/bin/bash
# long.sh - the peak of resident memory with a long context, against what `slm plan` says.
#
# usage: bench/long.sh MODEL [CONTEXT [TOKENS]]
#            TOKENS positions are filled (default: CONTEXT, and that 32768): a prompt, and 16 tokens
#            written after it. Memory for keys and values is touched as positions are filled, so
#            with fewer TOKENS what the plan has for the others is taken off.
#        bench/long.sh --window MAKE_MODEL [CONTEXT [TOKENS]]
#            the same (CONTEXT 131072) with a model that has the window layout of gemma-3-4b (five
#            layers with a window of 1024, then a full one; head_dim 256) in 6 layers with
#            few heads. MAKE_MODEL is a Python program that writes it: MAKE_MODEL NAME TYPE FILE; it
#            finds the shapes in ../models beside itself. The model goes to WORK and is deleted.
#   KV      type of keys and values (bf16)
#   CHUNK   prompt tokens evaluated together (256)
#   HEADS   query heads, and as many for keys, of the short model (2)
#   LAYERS  its layers (6)
#   WORK    folder for it (/tmp/slm-long)
#   PYTHON  to run MAKE_MODEL with (python3)
# Exit code 1 when the peak is more than 5 % away from the plan. Takes minutes: the work grows with
# the square of TOKENS.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p' >&2
    exit 2
}
[ $# -ge 1 ] || usage
slm=${SLM:-build/slm}
python=${PYTHON:-python3}
work=${WORK:-/tmp/slm-long}
shrink=''
context=32768
if [ "$1" = --window ]; then
    [ $# -ge 2 ] && [ -f "$2" ] || usage
    shrink=$2
    context=131072
    shift
fi
model=$1
context=${2:-$context}
tokens=${3:-$context}

# A copy of the tool beside shapes that are cut down; the tokenizers stay where they are.
short_model() {
    local root from
    from=$(cd "$(dirname "$shrink")/.." && pwd)
    root=$work/root
    mkdir -p "$root/tools" "$root/models"
    ln -sfn "$from/tokenizers" "$root/tokenizers"
    cp "$shrink" "$root/tools/make.py"
    cp -r "$from/models/gemma-3-4b-it" "$root/models/"
    chmod -R u+w "$root"
    python3 - "$root/models/gemma-3-4b-it/arch.json" "${LAYERS:-6}" "${HEADS:-2}" <<'PY'
import json, sys
path, layers, heads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
a = json.load(open(path))
wide = heads * a["head_dim"]
a.update(n_layers=layers, hidden=256, ffn=512, n_heads=heads, n_kv_heads=heads, q_dim=wide,
         kv_dim=wide)
json.dump(a, open(path, "w"))
PY
    "$python" "$root/tools/make.py" gemma-3-4b q8_0 "$work/short.gguf"
}

if [ -n "$shrink" ]; then
    trap 'rm -rf "$work/root" "$work/short.gguf"' EXIT
    mkdir -p "$work"
    short_model
    model=$work/short.gguf
fi

python3 - "$slm" "$model" "$context" "$tokens" "${KV:-bf16}" "${CHUNK:-256}" <<'PY'
import json, os, subprocess, sys, tempfile
slm, model, context, tokens, kv, chunk = sys.argv[1:]
context, tokens = int(context), min(int(tokens), int(context))
machine = ["--kv", kv, "--chunk", chunk, "--json", "--quiet"]
WRITTEN = 16

def plan(n):
    out = subprocess.run([slm, "plan", model, "-c", str(n)] + machine, stdout=subprocess.PIPE,
                         check=True)
    return json.loads(out.stdout)["plans"][0]

def count(text):
    out = subprocess.run([slm, "tokenize", model, "--bos"], input=text.encode(),
                         stdout=subprocess.PIPE, check=True)
    return out.stdout.count(b",") + 1

# Words that are one token each in every vocabulary; a start token may be in front.
words = "the way of the water is to the sea and back".split()
wanted = tokens - WRITTEN
text = " ".join(words[i % len(words)] for i in range(wanted))
surplus = count(text) - wanted
if surplus:
    text = " ".join(text.split(" ")[:-surplus])

whole, filled = plan(context), plan(tokens)
with tempfile.TemporaryFile() as prompt, tempfile.TemporaryFile() as answer:
    prompt.write(text.encode())
    prompt.seek(0)
    child = subprocess.Popen([slm, "complete", model, "-", "-c", str(context), "-n", str(WRITTEN),
                              "--greedy", "--no-packed-cache"] + machine,
                             stdin=prompt, stdout=answer)
    _, status, usage = os.wait4(child.pid, 0)
    answer.seek(0)
    told = answer.read().decode()
if status != 0:
    sys.exit("long: slm complete failed: " + told[:300])
told = json.loads(told)
peak = usage.ru_maxrss * 1024
expected = whole["total"] - whole["kv"] + filled["kv"]
off = 100.0 * (peak / expected - 1)
mb = lambda n: "%.1f MB" % (n / 1e6)
print("%s, context %d, %s, chunk %s: planned %s (weights %s, keys and values %s, scratch %s, "
      "vocabulary %s)"
      % (os.path.basename(model), context, kv, chunk, mb(whole["total"]),
         mb(whole["weights_file"] + whole["weights_packed"]), mb(whole["kv"]), mb(whole["scratch"]),
         mb(whole["vocabulary"])))
print("filled %d positions: planned for them %s, measured %s (%+.1f %%)"
      % (told["usage"]["prompt_tokens"] + told["usage"]["output_tokens"], mb(expected), mb(peak),
         off))
print("prefill %.1f tok/s, %.0f s; decode at the end %.1f tok/s"
      % (told["timings"]["prefill_tok_s"], told["timings"]["prefill_ms"] / 1e3,
         told["timings"]["decode_tok_s"]))
sys.exit(0 if abs(off) < 5 else 1)
PY
