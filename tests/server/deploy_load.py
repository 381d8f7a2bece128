#!/usr/bin/env python3
"""deploy_load.py URL KEY WHAT... - clients of a balancer in front of several servers, for test_deploy.sh.

affinity         31 system prompts, 5 requests each, one after another: share on each prompt's main server
long N           the same for 10 prompts of N bytes, which the servers refuse: only who refused counts
session          requests without anything in common but x-session-id
stream           one streamed answer: its type, its last line, pieces
load S FILE      12 clients for S seconds; touches FILE when they are under way; counts what failed
Prints one JSON document."""
import collections
import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request

url, key, what = sys.argv[1:4]


def ask(system, user, stream=False, headers=None):
    body = {"model": "demo", "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "max_tokens": 12, "seed": 1, "stream": stream}
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {
        "content-type": "application/json", "authorization": "Bearer " + key, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


def sticky(prompts, rounds, headers=None):
    seen = collections.defaultdict(collections.Counter)
    status = collections.Counter()
    cached = collections.Counter()
    for r in range(rounds):
        for i, prompt in enumerate(prompts):
            code, head, data = ask(prompt, "Question %d of %d" % (r, i), headers=headers(i) if headers else None)
            seen[i][head["x-slm-server"]] += 1
            status[code] += 1
            if code == 200:
                usage = json.loads(data)["usage"]
                later = r > 0
                cached[later] += usage["prompt_tokens_details"]["cached_tokens"]
                cached[(later, "all")] += usage["prompt_tokens"]
    servers = collections.Counter()
    for one in seen.values():
        servers.update(one)
    total = sum(servers.values())
    return {"share": sum(max(one.values()) for one in seen.values()) / total, "servers": dict(servers), "status": dict(status),
            "cached_later": cached[True] / max(1, cached[(True, "all")])}


def load(seconds, sign):
    failures, servers = collections.Counter(), collections.Counter()
    lock = threading.Lock()
    stop = time.monotonic() + seconds

    def work(seed):
        numbers = random.Random(seed)
        while time.monotonic() < stop:
            try:
                code, head, data = ask("System prompt %d." % numbers.randrange(30), "Question %d" % numbers.randrange(1000))
                wrong = None if code == 200 and json.loads(data)["choices"] else "%d %s" % (code, data[:200].decode())
            except (OSError, ValueError, KeyError) as e:
                wrong = repr(e)
            with lock:
                if wrong:
                    failures[wrong] += 1
                else:
                    servers[head["x-slm-server"]] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for one in threads:
        one.start()
    time.sleep(seconds / 4)
    open(sign, "w").close()
    for one in threads:
        one.join()
    return {"answered": sum(servers.values()), "servers": dict(servers), "failed": dict(failures)}


if what == "affinity":
    words = "You are a careful assistant for the team number %d and you answer in one short sentence. "
    print(json.dumps(sticky([(words % i) * 4 for i in range(31)], 5)))
elif what == "long":
    print(json.dumps(sticky([("%d " % i) + "x" * int(sys.argv[4]) for i in range(10)], 3)))
elif what == "session":
    numbers = random.Random(1)
    print(json.dumps(sticky(["one"] * 10, 5, lambda i: {"x-session-id": "session %d" % i})))
elif what == "stream":
    code, head, data = ask("Be brief.", "Hello", stream=True)
    print(json.dumps({"status": code, "type": head["content-type"], "pieces": data.count(b"\n\ndata: "),
                      "last": data.decode().strip().split("\n")[-1]}))
elif what == "load":
    print(json.dumps(load(float(sys.argv[4]), sys.argv[5])))
