#!/usr/bin/env python3
"""soak.py - good and hostile requests, mixed, against one server for a long time.

usage: bench/soak.py [--seconds N] [--clients N] [--leavers N] [--pause-while FILE] [--json]
Starts `slm serve demo` (SLM_BUILD says which) and asks it until the time is over: known questions whose
answers must stay what they were, streams, several choices, other dialects; garbage, broken HTTP, wrong
types, endless headers; clients that leave at a random moment. Then N more clients that leave. While FILE exists (somebody measures) nothing is asked. Prints what
came of it, memory and descriptors over time; exit status 1 when something was wrong.
Standard library only."""
import argparse
import contextlib
import http.client
import json
import os
import random
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "server"))
from serving import Server, chat, long_answer, post_bytes  # noqa: E402

QUESTIONS = ["What is the capital of Peru?", "What is 7 + 5?", "Say hello.", "Who are you?", "Name a colour.",
             "What is 12 - 4?", "What is the capital of France?", "Translate water to French."]


class Soak:
    def __init__(self, server, seconds, pause):
        self.pause = pause
        self.server = server
        self.end = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.right = {}
        self.counts = {}
        self.wrong = []
        self.samples = []

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fail(self, what):
        with self.lock:
            self.wrong.append(what)

    def same(self, key, value):
        """the answer to a question is what it was the first time"""
        with self.lock:
            if self.right.setdefault(key, value) != value:
                self.wrong.append("another answer: %r: %r, before %r" % (key, value, self.right[key]))

    # ---- good ones

    def whole(self, rng):
        q = rng.choice(QUESTIONS)
        status, _, body = self.server.post("/v1/chat/completions", chat(q, logprobs=True))
        if status == 429:
            return "refused"
        if status != 200:
            return self.fail("chat: %s %s" % (status, body))
        choice = body["choices"][0]
        return self.same(q, (choice["message"]["content"],
                             [t["logprob"] for t in choice["logprobs"]["content"]])) or "whole"

    def stream(self, rng):
        q = rng.choice(QUESTIONS)
        status, events, text = self.server.stream("/v1/chat/completions", chat(q, stream=True))
        if status == 429:
            return "refused"
        if status != 200 or events[-1] != "[DONE]":
            return self.fail("stream: %s %s" % (status, text[-200:]))
        content = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in json.loads(e)["choices"])
        return self.same(("stream", q), content) or "stream"

    def choices(self, rng):
        seed = rng.randrange(50)
        status, _, body = self.server.post("/v1/completions", {
            "model": "demo", "prompt": "The capital of", "max_tokens": 12, "n": 3, "seed": seed})
        if status == 429:
            return "refused"
        if status != 200:
            return self.fail("choices: %s %s" % (status, body))
        return self.same(("n", seed), [c["text"] for c in body["choices"]]) or "choices"

    def other(self, rng):
        path, body = rng.choice([
            ("/api/chat", {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False,
                           "options": {"temperature": 0}}),
            ("/v1/messages", {"model": "demo", "max_tokens": 30, "messages": [{"role": "user", "content": "hi"}]}),
            ("/tokenize", {"content": "hi there"}), ("/v1/embeddings", {"model": "demo", "input": "hi"}),
            ("/v1/chat/completions", chat("One word.", response_format={"type": "json_object"}, max_tokens=40))])
        status = self.server.post(path, body)[0]
        if status not in (200, 429):
            return self.fail("%s: %s" % (path, status))
        return "other"

    def look(self, rng):
        path = rng.choice(["/health", "/metrics", "/v1/models", "/slots", "/api/tags", "/api/ps", "/props"])
        status = self.server.get(path)[0]
        return "look" if status == 200 else self.fail("%s: %s" % (path, status))

    # ---- hostile ones

    def garbage(self, rng):
        data = rng.choice([
            rng.randbytes(rng.randrange(1, 2000)), b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 500, b"GET " + b"/" * 70000,
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 9000 + b"\r\n",
            post_bytes("/v1/chat/completions", rng.randbytes(rng.randrange(3000)), {"Connection": "close"}),
            post_bytes("/v1/chat/completions", b"[" * 5000, {"Connection": "close"}),
            post_bytes("/v1/chat/completions", b"{}", {"Content-Length": "99999999999", "Connection": "close"}),
            post_bytes("/v1/chat/completions", b"x" * 50, {"Transfer-Encoding": "chunked", "Content-Length": None,
                                                           "Connection": "close"}),
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/json\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n"])
        c = self.server.connect(5)
        with contextlib.suppress(OSError):
            c.sendall(data)
            c.settimeout(rng.choice((0.01, 0.2)))
            c.recv(65536)
        c.close()
        return "garbage"

    def wrong_types(self, rng):
        body = chat("hi", max_tokens=2)
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice(["temperature", "n", "stop", "tools", "seed", "top_p", "messages", "stream", "model",
                               "response_format", "logit_bias", "tool_choice", "max_tokens", "stream_options"])
            body[name] = rng.choice([None, True, -1, 1e308, 2**63 - 1, "x", [], {}, [[]], {"a": {"b": [1]}}, "\u202e",
                                     ["x"] * 40, {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}])
        status = self.server.post("/v1/chat/completions", body)[0]
        if status not in (200, 400, 404, 429):
            return self.fail("wrong types: %s for %r" % (status, body))
        return "wrong types"

    def leaver(self, rng):
        with contextlib.suppress(OSError):
            c = self.server.connect(5)
            c.sendall(post_bytes("/v1/completions", long_answer(
                stream=rng.random() < 0.5, n=rng.choice((1, 1, 1, 4)), prompt="w " * rng.choice((1, 200, 900)),
                max_tokens=rng.choice((20, 300)))))
            if rng.random() < 0.8:
                time.sleep(rng.random() * rng.choice((0.01, 0.1)))
            if rng.random() < 0.5:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
        return "left"

    # ---- the days

    def client(self, number):
        rng = random.Random(number)
        kinds = [self.whole] * 6 + [self.stream] * 5 + [self.choices] * 2 + [self.other, self.look, self.garbage,
                                                                             self.wrong_types, self.leaver] * 2
        while time.monotonic() < self.end:
            while self.pause and os.path.exists(self.pause):
                time.sleep(0.2)
            kind = rng.choice(kinds)
            try:
                self.count(kind(rng) or "wrong")
            except (OSError, ValueError, http.client.HTTPException) as e:
                self.fail("%s: %r" % (kind.__name__, e))

    def sample(self):
        pid = self.server.process.pid
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        self.samples.append((time.monotonic(), rss, len(os.listdir("/proc/%d/fd" % pid))))

    def run(self, clients):
        threads = [threading.Thread(target=self.client, args=(i,)) for i in range(clients)]
        for t in threads:
            t.start()
        while time.monotonic() < self.end:
            self.sample()
            time.sleep(min(5, max(0.1, self.end - time.monotonic())))
        for t in threads:
            t.join()

    def leave(self, n, clients=16):
        def some(k):
            rng = random.Random(1000 + k)
            for _ in range(n // clients):
                self.leaver(rng)
        threads = [threading.Thread(target=some, args=(k,)) for k in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return n // clients * clients


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--leavers", type=int, default=10000)
    parser.add_argument("--pause-while")
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    with Server("--parallel", "4", "--queue", "16") as server:
        soak = Soak(server, o.seconds, o.pause_while)
        soak.run(o.clients)
        start = time.monotonic()
        left = soak.leave(o.leavers)
        took = time.monotonic() - start
        idle = server.wait_idle(30)
        soak.end = time.monotonic() + 2
        soak.client(1)  # the answers are still what they were
        time.sleep(1)
        soak.sample()
        m = server.metrics()
        log_ok = "Sanitizer" not in server.log()
    first = [s for s in soak.samples if s[0] < soak.samples[0][0] + 60]
    last = soak.samples[-1]
    report = {
        "seconds": o.seconds, "clients": o.clients, "requests": sum(soak.counts.values()), "kinds": soak.counts,
        "wrong": len(soak.wrong), "leavers_after": left, "leavers_seconds": round(took, 1), "idle_afterwards": idle,
        "rss_mib_first_minute": round(max(s[1] for s in first) / 1024, 1), "rss_mib_end": round(last[1] / 1024, 1),
        "rss_mib_most": round(max(s[1] for s in soak.samples) / 1024, 1),
        "descriptors_first_minute": max(s[2] for s in first), "descriptors_end": last[2],
        "cancelled": {k.split('"')[1]: int(v) for k, v in m.items() if k.startswith("slm_requests_cancelled_total")},
        "tokens": int(m["slm_generation_tokens_total"]),
    }
    print(json.dumps(report) if o.json else "\n".join("%s: %s" % kv for kv in report.items()))
    for line in soak.wrong[:20]:
        print("wrong: " + line)
    return 0 if idle and log_ok and not soak.wrong and last[2] <= report["descriptors_first_minute"] + 2 else 1


if __name__ == "__main__":
    sys.exit(main())
