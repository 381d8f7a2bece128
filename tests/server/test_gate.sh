#!/bin/bash
# test_gate.sh - who gets in: keys on every route, Host and Origin, sizes, names. See check_gate.py.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/server/check_gate.py
