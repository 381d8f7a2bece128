"""check_params.py - every parameter of the table, in every place where it may stand, with twenty-five
values against the running server: an answer or an error in words, never 5xx, never silence."""
import collections
import concurrent.futures
import json
import subprocess

from serving import SLM, Server, chat, finish, result

VALUES = [True, "", "text", [], {}, -1, 0, 1.5, -0.0001, 1e308, -1e308, 2**63 - 1, -2**63, 2**32, 2**31, 5e-324,
          [1], [None], [[]], {"a": 1}, "1", "\U0001f600", ["a", 1], False, "nan"]
MESSAGES = [{"role": "user", "content": "hi"}]
PLACES = {  # name in the table's second column: route, a body that is right
    "chat/completions": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2}),
    "completions": ("/v1/completions", {"prompt": "One", "max_tokens": 2}),
    "responses": ("/v1/responses", {"input": "hi", "max_output_tokens": 16}),
    "embeddings": ("/v1/embeddings", {"input": "hi"}),
    "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 2}),
    "api/*": ("/api/chat", {"messages": MESSAGES, "stream": False, "options": {"num_predict": 2}}),
    "api/* options": ("/api/chat", {"messages": MESSAGES, "stream": False}),
    "completion": ("/completion", {"prompt": "One", "n_predict": 2}),
    "tokenize and alike": ("/tokenize", {"content": "hi"}),
}


def table():
    text = subprocess.run([SLM, "serve", "--parameters"], stdout=subprocess.PIPE, check=True).stdout.decode()
    for line in text.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        yield cells[0].split("`")[1], [place.strip() for place in cells[1].split(",")]


def requests():
    for name, places in table():
        for place in places:
            path, right = PLACES[place]
            for value in VALUES:
                body = json.loads(json.dumps(dict(right, model="demo")))
                if place == "api/* options":
                    body["options"] = {"num_predict": 2}
                    body["options"][name] = value
                else:
                    body[name] = value
                yield place, name, value, path, body


with Server("--parallel", "8", "--queue", "1000") as s:
    def ask(r):
        try:
            return s.post(r[3], r[4], timeout=30)[0]
        except OSError as e:
            return repr(e)
    every = list(requests())
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        got = list(pool.map(ask, every))
    result(len(every) > 2500, "%d requests" % len(every))
    counts = collections.Counter(got)
    bad = ["%s %s=%r: %s" % (r[0], r[1], r[2], status) for r, status in zip(every, got)
           if status not in (200, 400, 404)]
    result(not bad, "answers or errors, never 5xx or silence: %s" % dict(counts), "\n".join(bad))
    result(s.wait_idle() and s.post("/v1/chat/completions", chat("hi"))[0] == 200, "and it serves on")
    result(s.process.poll() is None and "Sanitizer" not in s.log(), "alive", s.log()[-3000:])
finish()
