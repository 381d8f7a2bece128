#!/bin/bash
# test_answers.sh - the same answers streamed, whole, alone, beside others, over TLS and from models that
# come and go. See check_answers.py.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/server/check_answers.py
