#!/bin/bash
# test_images.sh - pictures on the command line: what is shown to a model that sees, and what is refused.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/cli/cli_common.sh

twin=tests/golden/gemma-3-4b-it
png=$twin/vision/preprocess/strip.png
ids=2,295,300,302,302,302,302,301,89

# logits NAME ARG...: rows of the last token into $work/NAME.npy
logits() {
    local name=$1
    shift
    "$slm" logits "$twin" --ids $ids --rows last --exact --out "$work/$name.npy" "$@" 2>"$work/err"
}
status=0
logits one --image "$png" || status=1
result $status 'a picture among ids' "$work/err"
status=0
logits again --image "$png" && cmp -s "$work/one.npy" "$work/again.npy" || status=1
result $status 'the same picture gives the same bits' "$work/err"
status=0
logits other --image $twin/vision/preprocess/gradient.png && ! cmp -s "$work/one.npy" "$work/other.npy" || status=1
result $status 'another picture gives others' "$work/err"

# refused WHAT CODE WORDS ARG...
refused() {
    local what=$1 code=$2 words=$3 status=0 is=0
    shift 3
    "$@" >"$work/out" 2>"$work/err" || is=$?
    { [ $is -eq "$code" ] && grep -q -- "$words" "$work/err"; } || status=1
    result $status "$what" "$work/err"
}
head -c 1000 "$png" >"$work/cut.png"
printf 'GIF89a\1\0\1\0\0\0\0;' >"$work/a.gif"
echo 'only words' >"$work/words.jpg"
: >"$work/empty.png"
refused 'a file that is cut short' 3 'cut.png: PNG' logits x --image "$work/cut.png"
refused 'a GIF' 3 'is a GIF; pictures are read from JPEG, PNG and WebP' logits x --image "$work/a.gif"
refused 'text under the name of a picture' 3 'is text' logits x --image "$work/words.jpg"
refused 'an empty file' 3 'is empty' logits x --image "$work/empty.png"
refused 'no file' 1 'cannot read the picture' logits x --image "$work/none.png"
refused 'no picture for the places' 2 'places for 1 images, 0 were given' logits x
refused 'too many pictures' 2 'places for 1 images, 2 were given' logits x --image "$png" --image "$png"
refused 'half an image' 2 'an image has 4' "$slm" logits $twin --ids 2,302,302,5 --image "$png"
refused 'a model that reads text only' 1 'does not see pictures' "$slm" run demo --image "$png" hello
grep -q 'sees pictures' "$work/err" || status=1
result $status 'and it is told which one sees' "$work/err"

refused 'classifying pictures with it' 1 'does not see pictures' \
    "$slm" classify demo --labels a,b "$png" "$work/cut.png"

# the tower in a file of its own
status=0
"$slm" quantize $twin "$work/m.gguf" --type bf16 >/dev/null 2>"$work/err" &&
    "$slm" quantize $twin "$work/mmproj-m.gguf" --type mmproj-f16 >/dev/null 2>>"$work/err" || status=1
result $status 'a model and its tower as two GGUF files' "$work/err"
status=0
"$slm" logits "$work/m.gguf" --ids $ids --rows last --exact --image "$png" --out "$work/gguf.npy" 2>"$work/err" || status=1
result $status 'the mmproj file beside a model is its tower' "$work/err"
refused 'a tower alone is no model' 3 'image tower of a model' "$slm" run "$work/mmproj-m.gguf" hello
cp "$work/mmproj-m.gguf" "$work/mmproj-n.gguf"
refused 'two towers beside a model: which one is not guessed' 1 'does not see pictures' \
    "$slm" logits "$work/m.gguf" --ids $ids --image "$png" --out "$work/x.npy"
status=0
"$slm" logits "$work/m.gguf" --ids $ids --rows last --exact --image "$png" --mmproj "$work/mmproj-n.gguf" \
    --out "$work/named.npy" 2>"$work/err" && cmp -s "$work/gguf.npy" "$work/named.npy" || status=1
result $status '--mmproj names it' "$work/err"
finish
