#!/bin/bash
# exactness.sh - what each weight type and each type of keys and values costs in exactness: the tables
# of docs/SPEED.md, "What the types cost in exactness", from the demo model.
#
# usage: bench/exactness.sh
#   SLM_ISA  instruction set to take ("avx2", ...; default: the best)
#   BUILD    build folder (build)
# The measuring is that of the test with the bounds (tests/golden/test_type_errors.c), here over all
# conversations. About half a minute of CPU time. Fails when a bound is broken.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
make -s BUILD="$build" "$build/tests/test_type_errors" >&2
"$build/tests/test_type_errors" --table 2>&1 | sed '/^\[/d'
