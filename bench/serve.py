#!/usr/bin/env python3
"""serve.py - tokens per second of a whole server at several numbers of streams, beside another one.

usage: bench/serve.py MODEL.gguf [--streams 1,4,8,16] [--tokens N] [--rounds N] [--peer CMD] [--json]
Starts `slm serve MODEL` and, after it has ended, CMD -m MODEL (llama-server, run without a shell), each
with as many places as the most streams. For each number of streams that many completions of N tokens are
asked for at once, streamed, each with a prompt of its own; what counts is all tokens over the time from the
first request to the last token, the best of the rounds. Standard library only."""
import argparse
import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLM = os.path.join(ROOT, os.environ.get("SLM_BUILD", "build"), "slm")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(port, path, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit("the server ended: %s" % process.args)
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            c.request("GET", path)
            if c.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("no answer from %s" % process.args)


def ask(port, number, tokens, got):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    c.request("POST", "/v1/completions", json.dumps({
        "prompt": "Chapter %d. It was the %dth year of the war, and" % (number, number * 7 + 3), "max_tokens": tokens,
        "temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
        "cache_prompt": False}), {"Content-Type": "application/json"})
    text = c.getresponse().read().decode()
    usage = [json.loads(line[6:])["usage"] for line in text.split("\n")
             if line.startswith("data: {") and '"usage":{' in line.replace(" ", "")]
    got.append(usage[-1]["completion_tokens"] if usage else 0)


def measure(port, streams, tokens, first):
    got, start = [], time.monotonic()
    threads = [threading.Thread(target=ask, args=(port, first + i, tokens, got)) for i in range(streams)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(got) / (time.monotonic() - start), sum(got)


def run(command, port, ready, o, env=None):
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        try:
            wait(port, ready, process)
            measure(port, 1, 8, 900)  # pages of the weights
            rates, first = {}, 1
            for streams in o.streams:
                best = 0
                for _ in range(o.rounds):
                    rate, n = measure(port, streams, o.tokens, first)
                    first += streams
                    if n != streams * o.tokens:
                        print("note: %d tokens instead of %d" % (n, streams * o.tokens), file=sys.stderr)
                    best = max(best, rate)
                rates[streams] = round(best, 1)
            return rates
        finally:
            process.terminate()
            process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--streams", type=lambda s: [int(x) for x in s.split(",")], default=[1, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer")
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    most = max(o.streams)
    report = {}
    port = free_port()
    report["slm serve"] = run([SLM, "serve", o.model, "--port", str(port), "--parallel", str(most), "--context", "512",
                               "--queue", str(most), "--quiet"], port, "/health/ready", o)
    if o.peer:
        port = free_port()
        report["peer"] = run(shlex.split(o.peer) + ["-m", o.model, "--port", str(port), "-np", str(most), "-c",
                                                    str(512 * most), "--threads", str(os.cpu_count())],
                             port, "/health", o)
    if o.json:
        print(json.dumps(report))
        return
    print("%-12s" % "streams" + "".join("%10d" % n for n in o.streams))
    for name, rates in report.items():
        print("%-12s" % name + "".join("%10.1f" % rates[n] for n in o.streams) + "  tokens/s")


if __name__ == "__main__":
    main()
