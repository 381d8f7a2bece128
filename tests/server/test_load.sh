#!/bin/bash
# test_load.sh - the server under load and attack: full queues, clients that leave or dawdle, draining.
# See check_load.py; SLM_LEAVERS is how many clients leave at random (300).
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/server/check_load.py
