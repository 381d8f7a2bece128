#!/bin/bash
# test_packed.sh - packed weights in $SLM_HOME/packed: made by the first start, used by the next ones,
# safe to delete, and not touched with --no-packed-cache.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

packed=$SLM_HOME/packed
model=$work/demo.gguf
peru='What is the capital of Peru?'
answer='The capital of Peru is Lima.'
run quantize demo-model "$model" --type q8_0
ends 'a model on disk' 0

count() { find "$packed" -type f 2>/dev/null | wc -l; }
is() { # NAME EXPECTED ACTUAL
    echo "expected $2, is $3" >"$work/show"
    result "$([ "$2" = "$3" ] && echo 0 || echo 1)" "$1" "$work/show"
}

run run "$model" "$peru" --no-packed-cache
prints 'without packed files' "$answer"
is 'no file' 0 "$(count)"
run run "$model" "$peru" --exact
prints 'exact' "$answer"
is 'no file for --exact' 0 "$(count)"

run run "$model" "$peru"
prints 'the first start' "$answer"
silent 'the first start'
is 'one file' 1 "$(count)"
file=$(find "$packed" -type f)
is 'for its owner alone' '600 700' "$(stat -c %a "$file") $(stat -c %a "$packed")"
before=$(stat -c '%i %Y' "$file")
run run "$model" "$peru"
prints 'the next start' "$answer"
silent 'the next start'
is 'the same file' "$before" "$(stat -c '%i %Y' "$file")"

# another state of the model, by the same path
cp "$model" "$work/copy.gguf" && mv "$work/copy.gguf" "$model"
run run "$model" "$peru"
prints 'a changed model' "$answer"
silent 'a changed model'
is 'still one file' 1 "$(count)"

printf 'x' | dd of="$file" bs=1 seek=2100000 conv=notrunc status=none
run run "$model" "$peru"
prints 'a damaged file' "$answer"
says 'a damaged file' "packing the weights again: .*$(basename "$file").* is damaged"
run run "$model" "$peru"
silent 'made again'

rm -r "$packed"
: >"$packed"
run run "$model" "$peru"
prints 'no folder can be made' "$answer"
says 'no folder can be made' 'the packed weights are not kept: '
rm "$packed"
run run "$model" "$peru"
prints 'deleted' "$answer"
is 'made again' 1 "$(count)"

run run demo "$peru"
prints 'the demo model' "$answer"
is 'has none' 1 "$(count)"
finish
