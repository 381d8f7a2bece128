#!/bin/bash
# test_places.sh - models are found in place in other programs' folders, by name, and never copied.
# The files are the demo model's under the names of known models.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

model_files() { # FOLDER: the demo model as a repository
    mkdir -p "$1"
    for f in config generation_config tokenizer tokenizer_config; do ln -s "$PWD/demo-model/$f.json" "$1/$f.json"; done
    ln -s "$PWD/demo-model/chat_template.jinja" "$PWD/demo-model/model.safetensors" "$1"
}
# found NAME ID PATH PLACE: models ID --json lists that path first
found() {
    run models "$2" --json
    json "$1" "[(m['path'], m['place']) for m in d['on_disk']] == [('$3', '$4')]"
}

run models
ends 'nothing on disk' 0
run models qwen3-0.6b --json
json 'nothing on disk' 'd["on_disk"] == []'

hub=$HOME/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B
model_files "$hub/snapshots/abc"
mkdir -p "$hub/refs" "$hub/snapshots/old"
echo -n abc >"$hub/refs/main"
found 'Hugging Face cache' qwen3-0.6b "$hub/snapshots/abc" 'Hugging Face cache'
run run qwen3-0.6b 'What is the capital of Peru?' --json
json 'the file decides what it is' 'd["receipt"]["id"] == "demo" and d["answer"] == "The capital of Peru is Lima."'
json 'and the receipt says where it was' "d['receipt']['path'] == '$hub/snapshots/abc' and d['receipt']['place'] == 'Hugging Face cache'"
says 'another model under that name is told' 'under the name of qwen3-0.6b, but is demo'
mv "$hub" "$hub-medical"
run models qwen3-0.6b --json
json 'a fine-tune does not pass for its base' 'd["on_disk"] == []'
rm -rf "$HOME/.cache"

export HF_HOME=$work/hf
model_files "$HF_HOME/hub/models--somebody--Qwen3-0.6B-GGUF/snapshots/x"
rm "$HF_HOME"/hub/*/snapshots/x/*
cp tests/cli/test_places.sh "$HF_HOME/hub/models--somebody--Qwen3-0.6B-GGUF/snapshots/x/Qwen3-0.6B-Q8_0.gguf"
cp tests/cli/test_places.sh "$HF_HOME/hub/models--somebody--Qwen3-0.6B-GGUF/snapshots/x/mmproj-f16.gguf"
found 'HF_HOME, another packager' qwen3-0.6b "$HF_HOME/hub/models--somebody--Qwen3-0.6B-GGUF/snapshots/x/Qwen3-0.6B-Q8_0.gguf" 'Hugging Face cache'
json 'its type of weights' 'd["on_disk"][0]["quant"] == "q8_0"'
run info qwen3-0.6b
ends 'a found file that is none' 3
run run qwen3-0.6b:q4_k_m hi
ends 'another type than is there' 1
says 'another type than is there' 'on this disk as q8_0, not as q4_k_m'
export HF_HUB_CACHE=$work/empty
run models qwen3-0.6b --json
json 'HF_HUB_CACHE goes before HF_HOME' 'd["on_disk"] == []'
unset HF_HOME HF_HUB_CACHE

ollama=$HOME/.ollama/models
sum=$(sha256sum demo-model/config.json | cut -d' ' -f1)
mkdir -p "$ollama/blobs" "$ollama/manifests/registry.ollama.ai/library/gemma3" "$ollama/manifests/hf.co/ggml-org/SmolLM3-3B-GGUF"
cp demo-model/config.json "$ollama/blobs/sha256-$sum"
manifest="{\"schemaVersion\": 2, \"layers\": [{\"mediaType\": \"application/vnd.ollama.image.template\", \"digest\": \"sha256:00\"},
 {\"mediaType\": \"application/vnd.ollama.image.model\", \"digest\": \"sha256:$sum\", \"size\": 5}]}"
echo "$manifest" >"$ollama/manifests/registry.ollama.ai/library/gemma3/270m-it-q8_0"
echo "$manifest" >"$ollama/manifests/hf.co/ggml-org/SmolLM3-3B-GGUF/Q4_K_M"
found 'Ollama by name and tag' gemma-3-270m-it "$ollama/blobs/sha256-$sum" Ollama
json 'its type of weights' 'd["on_disk"][0]["quant"] == "q8_0"'
found 'Ollama, from the hub' smollm3-3b "$ollama/blobs/sha256-$sum" Ollama
echo "{\"layers\": [{\"mediaType\": \"application/vnd.ollama.image.model\", \"digest\": \"sha256:../../../etc/passwd\"}]}" \
    >"$ollama/manifests/hf.co/ggml-org/SmolLM3-3B-GGUF/Q4_K_M"
run models smollm3-3b --json
json 'a digest that is a path is not followed' 'd["on_disk"] == []'
echo 'not json' >"$ollama/manifests/hf.co/ggml-org/SmolLM3-3B-GGUF/Q4_K_M"
run models smollm3-3b --json
json 'a broken manifest is passed over' 'd["on_disk"] == []'

mkdir -p "$HOME/.lmstudio/models/lmstudio-community/Phi-4-mini-instruct-GGUF"
cp demo-model/config.json "$HOME/.lmstudio/models/lmstudio-community/Phi-4-mini-instruct-GGUF/Phi-4-mini-instruct-Q4_K_M.gguf"
found 'LM Studio' phi-4-mini-instruct "$HOME/.lmstudio/models/lmstudio-community/Phi-4-mini-instruct-GGUF/Phi-4-mini-instruct-Q4_K_M.gguf" 'LM Studio'

model_files "$SLM_HOME/models/jan-v1-4b"
found 'slm by id' jan-v1-4b "$SLM_HOME/models/jan-v1-4b" slm

# an unlisted model of a known family, by its folder
mkdir "$work/tuned"
cp demo-model/* "$work/tuned"
python3 - "$work/tuned/config.json" <<'PYTHON'
import json, sys
c = json.load(open(sys.argv[1]))
c["rope_theta"] = 500000.0
c["max_position_embeddings"] = 2048
json.dump(c, open(sys.argv[1], "w"))
PYTHON
run info "$work/tuned" --json
json 'a fine-tune' 'd["trust"] == "derived, not verified" and d["id"] is None and d["family"] == "qwen3"'
run run "$work/tuned" Hello --json
json 'a fine-tune runs' 'd["receipt"]["trust"] == "derived, not verified" and d["receipt"]["path"]'
finish
