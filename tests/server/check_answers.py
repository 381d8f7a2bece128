"""check_answers.py - the same answers: streamed and whole, alone and beside others, over TLS, from
several models that come and go within a memory plan."""
import concurrent.futures
import json
import os
import subprocess
import tempfile
import threading
import time

from serving import SLM, Server, chat, finish, result

QUESTIONS = ["What is the capital of Peru?", "What is 7 + 5?", "Say hello.", "What is the capital of France?",
             "Name a colour.", "What is 12 - 4?", "Who are you?", "What is the capital of Japan?"]


def text_of(body):
    message = body["choices"][0]["message"]
    return (message.get("reasoning_content"), message["content"], body["choices"][0]["finish_reason"],
            body["usage"]["completion_tokens"])


def streamed(s, value, headers=None):
    status, events, text = s.stream("/v1/chat/completions", dict(value, stream=True,
                                                                  stream_options={"include_usage": True}), headers)
    if status != 200 or not events or events[-1] != "[DONE]":
        return status, text[-300:]
    reasoning, content, finish_reason, tokens = None, "", None, 0
    for event in events[:-1]:
        piece = json.loads(event)
        for choice in piece["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            if delta.get("reasoning_content"):
                reasoning = (reasoning or "") + delta["reasoning_content"]
            finish_reason = choice["finish_reason"] or finish_reason
        if piece.get("usage"):
            tokens = piece["usage"]["completion_tokens"]
    return reasoning, content, finish_reason, tokens


def cli(question, *options):
    """what `slm run` writes, which has a session of its own"""
    env = dict(os.environ, SLM_THREADS="1")
    run = subprocess.run([SLM, "run", "demo", question, "--json", *options], env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    return json.loads(run.stdout)


def check_equal():
    with Server("--parallel", "8") as s:
        alone = [s.post("/v1/chat/completions", chat(q))[2] for q in QUESTIONS]
        whole = [text_of(b) for b in alone]
        result(all(b["usage"]["completion_tokens"] > 0 for b in alone), "eight answers", whole)
        result([streamed(s, chat(q)) for q in QUESTIONS] == whole, "streamed as whole")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            together = list(pool.map(lambda q: text_of(s.post("/v1/chat/completions", chat(q))[2]), QUESTIONS))
            mixed = list(pool.map(lambda i: streamed(s, chat(QUESTIONS[i % 8])) if i % 3 else
                                  text_of(s.post("/v1/chat/completions", chat(QUESTIONS[i % 8]))[2]), range(64)))
        result(together == whole, "eight at once as each alone", together, whole)
        result(mixed == [whole[i % 8] for i in range(64)], "64 requests over eight places as each alone")
        seeds = [chat("Say something.", temperature=1.5, seed=i, logprobs=True, top_logprobs=3) for i in range(16)]

        def with_logprobs(v):
            b = s.post("/v1/chat/completions", v)[2]
            return text_of(b), json.dumps(b["choices"][0]["logprobs"])
        first = [with_logprobs(v) for v in seeds]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            second = list(pool.map(with_logprobs, seeds))
        result(first == second, "sampled with a seed: the same text and the same log-probabilities, to the last bit")
        result(len({f[0][1] for f in first} | {f[0][0] for f in first}) > 2, "and different seeds differ", first[:3])
        own = cli(QUESTIONS[0], "--greedy")
        result(own.get("answer", own.get("text")) == whole[0][1] or whole[0][1] in json.dumps(own),
               "as slm run answers", own, whole[0])
        body = s.post("/v1/chat/completions", chat(QUESTIONS[2], n=6, temperature=1, seed=5))[2]
        result([c["index"] for c in body["choices"]] == list(range(6)), "six choices", body)
        single = [text_of(s.post("/v1/chat/completions", chat(QUESTIONS[2], temperature=1, seed=5 + i))[2])[1]
                  for i in range(6)]
        result([c["message"]["content"] for c in body["choices"]] == single,
               "choice i is the answer to seed + i", body, single)
        body = s.post("/v1/completions", {"model": "demo", "prompt": ["The capital of", "One two"], "max_tokens": 4,
                                          "temperature": 0, "n": 2})[2]
        result([c["index"] for c in body["choices"]] == [0, 1, 2, 3] and
               body["choices"][0]["text"] == body["choices"][1]["text"], "two prompts, two choices each", body)
        many = s.post("/v1/chat/completions", chat("What is the capital of Peru? " * 20))[2]
        again = s.post("/v1/chat/completions", chat("What is the capital of Peru? " * 20))[2]
        cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
        result(cached > 100 and text_of(many) == text_of(again), "the receipt has the tokens of the cache", again)
        result(s.wait_idle() and s.metrics()["slm_prefix_cache_hits_total"] >= cached, "and so have the metrics")
        free = {text_of(s.post("/v1/chat/completions", chat("Say something.", temperature=2))[2])
                for _ in range(6)}
        result(len(free) > 1, "without a seed answers differ", free)


def check_tls():
    folder = tempfile.mkdtemp()
    cert, key = os.path.join(folder, "c.pem"), os.path.join(folder, "k.pem")
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                           "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext",
                           "subjectAltName=DNS:localhost"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if made.returncode != 0:
        result(True, "TLS # SKIP no openssl to make a certificate with")
        return
    with Server("--tls-cert", cert, "--tls-key", key, tls=cert) as s:
        whole = text_of(s.post("/v1/chat/completions", chat(QUESTIONS[0]))[2])
        result(streamed(s, chat(QUESTIONS[0])) == whole, "over TLS: streamed as whole", whole)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda _: streamed(s, chat(QUESTIONS[0])), range(16)))
        result(got == [whole] * 16, "sixteen at once")
        c = s.connect()
        result(c.version() in ("TLSv1.2", "TLSv1.3"), "TLS 1.2 or newer", c.version())
        body = json.dumps({"model": "demo", "prompt": "One", "ignore_eos": True, "max_tokens": 900, "n": 8,
                           "stream": True}).encode()
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        c.recv(1000)
        c.close()
        result(s.wait_idle(), "a client that leaves frees its places")
    for c, k in ((cert, cert), (key, key), ("/nonexistent", key)):
        run = subprocess.run([SLM, "serve", "demo", "--port", "0", "--tls-cert", c, "--tls-key", k],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
        result(run.returncode == 1 and run.stderr, "bad certificate or key: an error in words", run)


def check_models():
    other = os.path.join(tempfile.mkdtemp(), "other")
    third = os.path.join(os.path.dirname(other), "third")
    for path in (other, third):
        os.symlink(os.path.abspath("demo-model"), path)
    with Server("--parallel", "2", "--cache-memory", "1M", models=("demo", other, third)) as s:
        names = [m["id"] for m in json.loads(s.get("/v1/models")[2])["data"]]
        result(names[:3] == ["demo", "other", "third"], "models in the order of the command line", names)
        answers = [text_of(s.post("/v1/chat/completions", chat(QUESTIONS[0], model=n))[2]) for n in names[:3]]
        result(answers[0] == answers[1] == answers[2], "three models answer")
        need = s.metrics()['slm_model_memory_bytes{model="demo"}']
        default = s.post("/v1/chat/completions", dict(chat(QUESTIONS[0]), model=""))[2]
        result(default.get("model") == "demo" or "error" in default, "no name: the first one", default)
    most = str(int(need * 2.5))
    with Server("--parallel", "2", "--cache-memory", "1M", "--max-memory", most, "--isa", "ref",
                models=("demo", other)) as s:
        result(s.metrics()["slm_models_loaded"] == 2, "two fit the plan")
        result(s.post("/api/generate", {"model": "other", "keep_alive": 0})[0] == 200, "one is unloaded on request")
        end = time.monotonic() + 10
        while time.monotonic() < end and s.metrics()["slm_models_loaded"] != 1:
            time.sleep(0.02)
        result(s.metrics()["slm_models_loaded"] == 1, "and is gone")
        got = s.post("/v1/chat/completions", chat(QUESTIONS[0], model="other"))
        result(got[0] == 200 and text_of(got[2]) == answers[0], "and comes back when it is asked for", got)
    run = subprocess.run([SLM, "serve", "demo", other, "--port", "0", "--parallel", "2", "--cache-memory", "1M",
                          "--max-memory", str(int(need * 1.5)), "--context", "1024"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, timeout=60, check=False)
    result(run.returncode == 4, "two listed models that do not fit together are refused at the start", run)
    check_swaps(other)


def check_swaps(other):
    with Server("--parallel", "2", "--cache-memory", "1M", "--unload-after", "1", models=("demo", other)) as s:
        end = time.monotonic() + 15
        while time.monotonic() < end and s.metrics()["slm_models_loaded"] != 0:
            time.sleep(0.1)
        result(s.metrics()["slm_models_loaded"] == 0, "idle models go after --unload-after")
        # loaded and unloaded under load: each answer is right, whatever happens beside it
        stop = time.monotonic() + 4
        wrong = []
        right = {}

        def ask(i):
            n = 0
            while time.monotonic() < stop:
                name = ("demo", "other")[(i + n) % 2]
                q = QUESTIONS[(i * 3 + n) % 8]
                status, _, body = s.post("/v1/chat/completions", chat(q, model=name))
                got = text_of(body) if status == 200 else (status, body)
                if right.setdefault(q, got) != got:
                    wrong.append((name, q, got))
                n += 1
            return n

        def unload():
            while time.monotonic() < stop:
                s.post("/api/generate", {"model": ("demo", "other")[int(time.monotonic() * 20) % 2], "keep_alive": 0})
                time.sleep(0.03)
        thread = threading.Thread(target=unload)
        thread.start()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            n = sum(pool.map(ask, range(8)))
        thread.join()
        loads = s.metrics()["slm_model_loads_total"]
        result(not wrong and loads > 4, "%d answers while models came and went %d times" % (n, loads), wrong[:3], loads)


check_equal()
check_tls()
check_models()
finish()
