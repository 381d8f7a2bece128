#!/bin/bash
# test_params.sh - every parameter with values that it cannot have. See check_params.py.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/server/check_params.py
