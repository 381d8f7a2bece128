#!/bin/bash
# test_llama.sh - llama-server's routes and what editors read of models. See check_llama.py.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/server/check_llama.py
