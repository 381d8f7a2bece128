#!/bin/bash
# test_lm_eval.sh - what lm-evaluation-harness asks of a server. See check_lm_eval.py.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/server/check_lm_eval.py
