#!/usr/bin/env python3
"""run_tests.py - runs test programs and scripts that print TAP, and counts.

usage: run_tests.py [-j N] [-t SECONDS] [--logs DIR] CASE... [+++ CASE...]
A CASE is a path, or "NAME=VALUE ... path" with environment for it. `+++` ends a phase: cases of
one phase run side by side, the next phase starts when all have ended. Each case has its time
limit, its log in DIR, and one line of output. A program that dies, prints no TAP or fewer results
than its plan announced has one failure more. The last line is `N passed, N failed`, with
`, N skipped` when some were; skipped ones are listed with their reason. Exit 1 when one failed.
"""
import argparse
import collections
import concurrent.futures
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

RESULT = re.compile(r"^(not )?ok\b\s*\d*\s*-?\s*(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)")
SKIP = re.compile(r"#\s*skip\b:?\s*(.*)$", re.I)
KEPT_LINES = 40  # of a failed program's output, shown at the end

Outcome = collections.namedtuple("Outcome", "label passed failed skips seconds problem log")
lock = threading.Lock()


def split_case(case):
    words = shlex.split(case)
    env = {}
    while words and re.match(r"^\w+=", words[0]):
        name, value = words.pop(0).split("=", 1)
        env[name] = value
    path = words[0]
    label = os.path.basename(path)
    folder = path.split("/", 1)[0]
    if folder.startswith("build-"):
        label += " [" + folder[len("build-"):] + "]"
    for name, value in env.items():
        label += " [%s=%s]" % (name, value)
    return label, env, words


def parse(text):
    """(passed, failed, [skip reasons], results announced but not seen)"""
    passed = failed = planned = 0
    skips = []
    reason = None
    for line in text.splitlines():
        plan = PLAN.match(line)
        if plan:
            planned += int(plan.group(1))
            if planned == 0 and SKIP.search(line):
                skips.append(SKIP.search(line).group(1) or "no reason given")
                planned = 1
            continue
        result = RESULT.match(line)
        if not result:
            note = SKIP.match(line)
            if note:
                reason = note.group(1)
            continue
        skip = SKIP.search(result.group(2))
        if skip:  # cmocka prints "not ok N # SKIP name", the reason stands in a comment before it
            skips.append(reason or skip.group(1) or "no reason given")
        elif result.group(1):
            failed += 1
        else:
            passed += 1
        reason = None
    return passed, failed, skips, planned - passed - failed - len(skips)


def execute(words, env, limit, log):
    """(exit status or None after the time limit); everything it printed is in the log"""
    with open(log, "wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, env=env, start_new_session=True)
        try:
            return process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def run(case, options):
    label, extra, words = split_case(case)
    log = os.path.join(options.logs, re.sub(r"[^\w.=-]+", "_", label) + ".log")
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", **extra)
    begin = time.monotonic()
    if "/" not in words[0]:
        words[0] = "./" + words[0]
    if not os.access(words[0], os.X_OK):
        return Outcome(label, 0, 1, [], 0.0, "was not built", None)
    status = execute(words, env, options.timeout, log)
    with open(log, encoding="utf-8", errors="replace") as f:
        passed, failed, skips, missing = parse(f.read())
    problem = None
    if status is None:
        problem = "took longer than %d s" % options.timeout
    elif status < 0:
        problem = "died of signal %d" % -status
    elif passed + failed + len(skips) == 0:
        problem = "printed no result"
    elif missing > 0:
        problem = "%d results are missing" % missing
    # cmocka counts a skipped test as a failed line, but its exit status does not
    elif status != 0 and failed == 0:
        problem = "exit status %d" % status
    if problem:
        failed += 1
    return Outcome(label, passed, failed, skips, time.monotonic() - begin, problem, log)


def show(outcome):
    text = "%-4s %-44s %5d passed" % ("FAIL" if outcome.failed else "ok", outcome.label,
                                      outcome.passed)
    if outcome.failed:
        text += ", %d failed" % outcome.failed
    if outcome.skips:
        text += ", %d skipped" % len(outcome.skips)
    text += "  %.1f s" % outcome.seconds
    if outcome.problem:
        text += "  (%s)" % outcome.problem
    with lock:
        print(text, flush=True)


def show_failure(outcome):
    print("\n---- %s%s" % (outcome.label, ": " + outcome.problem if outcome.problem else ""))
    if outcome.log is None:
        return
    with open(outcome.log, encoding="utf-8", errors="replace") as f:
        lines = f.read().splitlines()
    picked = set()
    for i, line in enumerate(lines):
        if RESULT.match(line) and line.startswith("not ok") and not SKIP.search(line):
            picked.update(range(i, min(i + 6, len(lines))))
    if not picked or outcome.problem:
        picked.update(range(max(0, len(lines) - KEPT_LINES), len(lines)))
    for i in sorted(picked)[:3 * KEPT_LINES]:
        print("    " + lines[i][:400])
    print("    whole output: " + outcome.log)


def main():
    parser = argparse.ArgumentParser(usage="run_tests.py [-j N] [-t SECONDS] [--logs DIR] CASE...")
    parser.add_argument("-j", type=int, default=2, dest="jobs")
    parser.add_argument("-t", type=float, default=300, dest="timeout")
    parser.add_argument("--logs", default="build/logs")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    os.makedirs(options.logs, exist_ok=True)

    phases = [[]]
    for case in options.cases:
        if case == "+++":
            phases.append([])
        else:
            phases[-1].append(case)
    outcomes = []
    for phase in phases:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            waiting = [pool.submit(run, case, options) for case in phase]
            for future in concurrent.futures.as_completed(waiting):
                outcomes.append(future.result())
                show(outcomes[-1])

    for outcome in outcomes:
        if outcome.failed:
            show_failure(outcome)
    reasons = collections.Counter(s for o in outcomes for s in o.skips)
    if reasons:
        print("\nskipped:")
        for reason, count in sorted(reasons.items()):
            print("  %4d  %s" % (count, reason))
    passed = sum(o.passed for o in outcomes)
    failed = sum(o.failed for o in outcomes)
    print("\n%d passed, %d failed%s" % (passed, failed, ", %d skipped" % sum(reasons.values())
                                        if reasons else ""))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
