"""check_gate.py - who gets in: keys, Host, Origin, content types, sizes, methods, paths."""
import json
import os
import re
import subprocess
import tempfile

from serving import JSON_TYPE, SLM, Server, chat, finish, post_bytes, result

ROW = r'(GET|HEAD|POST|DELETE|PUT|ASK)(?:"?,\s*|\()"(/[^"]*)"'
KEY = "correct-horse-battery-staple"
OTHER = "another-key-of-the-file-0002"


def key_file(text, mode=0o600):
    fd, path = tempfile.mkstemp()
    os.write(fd, text.encode())
    os.close(fd)
    os.chmod(path, mode)
    return path


def routes():
    """every route of the dialects' table and the server's own, from the sources that define them"""
    source = open("src/server/api_routes.c", encoding="utf-8").read()
    found = re.findall(ROW, source)
    own = [("GET", "/metrics")]
    return [(m.replace("ASK", "POST"), p.replace("*", "demo")) for m, p in found] + own


def check_keys():
    keys = key_file("# comment\nalice %s\n\nbob %s rpm=3\ncarol third-key-0000000000 concurrent=1\n"
                    "dave fourth-key-000000000 tpm=10\n" % (KEY, OTHER))
    with Server("--keys", keys) as s:
        table = routes()
        result(len(table) > 20, "the table of routes was read (%d)" % len(table))
        wrong = {
            "no key": {}, "empty": {"Authorization": "Bearer "}, "wrong": {"Authorization": "Bearer x" * 3},
            "prefix": {"Authorization": "Bearer " + KEY[:-1]},
            "one byte more": {"Authorization": "Bearer " + KEY + "x"},
            "other scheme": {"Authorization": "Basic " + KEY},
            "no scheme": {"Authorization": KEY},
            "wrong x-api-key": {"x-api-key": KEY[:-1]},
            "right and wrong": {"Authorization": "Bearer " + KEY, "x-api-key": "wrong"},
            "two different": {"Authorization": "Bearer " + KEY, "x-api-key": OTHER},
            "16 KiB key": {"Authorization": "Bearer " + "k" * 16384},
        }
        for name, headers in wrong.items():
            bad = []
            for method, path in table:
                h = dict(headers)
                body = None
                if method == "POST":
                    h.update(JSON_TYPE)
                    body = "{}"
                status = s.request(method, path, body, h)[0]
                if status != 401:
                    bad.append("%s %s: %d" % (method, path, status))
            result(not bad, "every route refuses: %s (%d routes)" % (name, len(table)), "\n".join(bad))
        raw = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" \
              b"Authorization: Bearer %s\r\nAuthorization: Bearer %s\r\n\r\n" % (KEY.encode(), KEY.encode())
        result(b" 401 " in s.raw(raw).split(b"\r\n")[0], "two Authorization headers are refused")
        raw = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" \
              b"Authorization: Bearer %s\0%s\r\n\r\n" % (KEY[:-1].encode(), KEY[-1:].encode())
        result(b" 200 " not in s.raw(raw).split(b"\r\n")[0], "a key with a NUL in it is refused")
        for name, headers in {"Authorization": {"Authorization": "Bearer " + KEY},
                              "lower case": {"authorization": "bearer " + KEY},
                              "x-api-key": {"x-api-key": KEY},
                              "both the same": {"Authorization": "Bearer " + KEY, "x-api-key": KEY}}.items():
            result(s.get("/v1/models", headers)[0] == 200, "the key opens: " + name)
        for path in ("/health", "/health/ready"):
            result(s.get(path)[0] == 200, path + " wants no key")
        status, head, body = s.post("/v1/chat/completions", chat("hi"))
        result(status == 401 and body["error"]["code"] == "invalid_api_key" and
               head["x-should-retry"] == "false", "the error is OpenAI's, and no reason to try again", head, body)
        status, head, body = s.post("/v1/messages", {"model": "demo", "max_tokens": 5, "messages": []})
        result(status == 401 and body["type"] == "error", "and Anthropic's where that is spoken", body)
        status = s.request("GET", "/no/such/path")[0]
        result(status == 401, "what paths there are is told to nobody without a key", status)

        bob = {"Authorization": "Bearer " + OTHER}
        seen = [s.post("/v1/chat/completions", chat("hi", max_tokens=2), bob) for _ in range(4)]
        result([x[0] for x in seen] == [200, 200, 200, 429], "3 requests a minute are 3", [x[0] for x in seen])
        head = seen[3][1]
        result(5 <= int(head["retry-after"]) <= 21 and int(head["retry-after-ms"]) > 5000 and
               head["x-should-retry"] == "true", "and when to come again", head)
        dave = {"x-api-key": "fourth-key-000000000"}
        first = s.post("/v1/chat/completions", chat("What is the capital of Peru?"), dave)[0]
        again = s.post("/v1/chat/completions", chat("What is the capital of Peru?"), dave)
        result(first == 200 and again[0] == 429, "tokens a minute are owed until they are back", first, again)
        prompt = chat("What is the capital of Peru? " * 12, max_tokens=1)
        alice = {"x-api-key": KEY}
        carol = {"x-api-key": "third-key-0000000000"}
        cached = [s.post("/v1/chat/completions", prompt, who)[2]["usage"]["prompt_tokens_details"]["cached_tokens"]
                  for who in (alice, alice, carol, carol, alice)]
        result(cached[0] == cached[2] == 0 and cached[1] == cached[3] == cached[4] > 50,
               "nothing of the cache crosses keys", cached)
        log = s.log()
        result(KEY not in log and OTHER not in log and '"key":"bob"' in log,
               "the log has names, never keys")
        m = s.metrics({"x-api-key": KEY})
        result(m['slm_requests_rejected_total{reason="auth"}'] >= 10 * len(table) and
               m['slm_requests_rejected_total{reason="key_limit"}'] >= 2, "refusals are counted")

    for name, text, mode in (("others may read it", "a %s\n" % KEY, 0o644), ("short key", "a short\n", 0o600),
                             ("no key", "# nothing\n", 0o600), ("bad limit", "a %s rpm=0\n" % KEY, 0o600),
                             ("same key twice", "a %s\nb %s\n" % (KEY, KEY), 0o600),
                             ("bad hash", "a sha256:12\n", 0o600)):
        run = subprocess.run([SLM, "serve", "demo", "--port", "0", "--keys", key_file(text, mode)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
        result(run.returncode == 1 and KEY.encode() not in run.stderr, "key file refused: " + name, run)
    import hashlib
    hashed = key_file("a sha256:%s\n" % hashlib.sha256(KEY.encode()).hexdigest())
    with Server("--keys", hashed) as s:
        result(s.get("/v1/models", {"x-api-key": KEY})[0] == 200, "a file of hashes opens to the key")
    with Server("--keys", keys, "--share-cache") as s:
        cached = [s.post("/v1/chat/completions", prompt, who)[2]["usage"]["prompt_tokens_details"]["cached_tokens"]
                  for who in (alice, carol)]
        result(cached[0] == 0 and cached[1] > 50, "with --share-cache it may", cached)
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "slm-keys"), "w", encoding="utf-8") as f:
        f.write("a %s\n" % KEY)
    with Server(env={"CREDENTIALS_DIRECTORY": folder}) as s:
        result(s.get("/v1/models")[0] == 401 and s.get("/v1/models", {"x-api-key": KEY})[0] == 200,
               "keys come as credential of the service manager, too")
    for host in ("0.0.0.0", "::"):
        run = subprocess.run([SLM, "serve", "demo", "--port", "0", "--host", host],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
        result(run.returncode == 2 and b"--keys" in run.stderr, "--host %s without a key is refused" % host, run)


def check_origins():
    hosts = [("127.0.0.1", True), ("127.0.0.1:8080", True), ("localhost", True), ("LOCALHOST:1", True),
             ("[::1]:80", True), ("192.168.1.5", True), ("api.localhost", True), ("slm.example", True),
             ("evil.example", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example", False),
             ("", False), ("127.0.0.1:80:80", False), ("[::1", False), ("slm.example.evil", False),
             ("evil.example#localhost", False), ("localhost@evil.example", False)]
    origins = [(None, True), ("http://app.example", True), ("https://app.example", False),
               ("http://app.example.evil", False), ("null", False), ("http://localhost:3000", False)]
    with Server("--allow-host", "slm.example", "--allow-origin", "http://app.example") as s:
        bad = []
        n = 0
        for host, host_ok in hosts:
            for origin, origin_ok in origins + [("http://" + host, True)]:
                for ctype, type_ok in (("application/json", True), ("text/plain", False),
                                       ("application/x-www-form-urlencoded", False), (None, False)):
                    headers = {"Content-Type": ctype, "Connection": "close", "Origin": origin}
                    data = post_bytes("/v1/chat/completions", chat("hi", max_tokens=1), headers, host)
                    line = s.raw(data).split(b"\r\n")[0]
                    n += 1
                    wanted = b" 403 " if not (host_ok and origin_ok) else b" 200 " if type_ok else b" 415 "
                    if host == "":
                        wanted = b" 40"
                    if wanted not in line:
                        bad.append("%s %s %s: %s" % (host, origin, ctype, line))
        result(not bad, "%d combinations of Host, Origin and Content-Type" % n, "\n".join(bad))
        head = s.post("/v1/chat/completions", chat("hi", max_tokens=1), {"Origin": "http://app.example"})[1]
        result(head.get("access-control-allow-origin") == "http://app.example" and
               "access-control-allow-credentials" not in head, "a listed origin is named, without credentials")
        status, head, _ = s.request("OPTIONS", "/v1/chat/completions", None,
                                    {"Origin": "http://app.example", "Access-Control-Request-Method": "POST"})
        result(status == 204 and "authorization" in head["access-control-allow-headers"], "its preflight passes")
        status, head, _ = s.request("OPTIONS", "/v1/chat/completions", None, {"Origin": "http://evil.example"})
        result(status == 403 and "access-control-allow-origin" not in head, "a foreign one's does not", status)


def check_sizes():
    with Server("--max-body", "1M") as s:
        big = b'{"model":"demo","messages":[{"role":"user","content":"' + b"x" * (2 << 20) + b'"}]}'
        head = post_bytes("/v1/chat/completions", b"", {"Content-Length": str(len(big)), "Connection": "close"})
        line = s.raw(head).split(b"\r\n")[0]
        result(b" 413 " in line, "413 from the Content-Length, before the body", line)
        chunked = post_bytes("/v1/chat/completions", b"", {"Content-Length": None, "Transfer-Encoding": "chunked",
                                                           "Connection": "close"})
        pieces = b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
        line = s.raw(chunked + pieces).split(b"\r\n")[0]
        result(b" 413 " in line, "413 for a chunked body that grows above", line)
        small = json.dumps(chat("hi", max_tokens=1)).encode()
        line = s.raw(chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(small), small)).split(b"\r\n")[0]
        result(b" 200 " in line, "a small chunked body is taken", line)
        for length in ("-1", "abc", "1e3", "99999999999999999999999"):
            line = s.raw(post_bytes("/v1/chat/completions", b"{}", {"Content-Length": length, "Connection": "close"}),
                         timeout=5).split(b"\r\n")[0]
            result(b" 200 " not in line and b" 5" not in line, "Content-Length %s is refused" % length, line)
        line = s.raw(post_bytes("/v1/chat/completions", small, {"Content-Encoding": "gzip", "Connection": "close"}))
        result(b" 415 " in line.split(b"\r\n")[0], "415 for a Content-Encoding", line[:100])
        for kib, status in ((8, b" 200 "), (24, b" 200 "), (40, b" 431 "), (64, b" 431 "), (300, b" 431 ")):
            data = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Big: " + \
                b"a" * (kib << 10) + b"\r\n\r\n"
            line = s.raw(data).split(b"\r\n")[0]
            result(status in line, "headers of %d KiB:%s" % (kib, status.decode()), line)
        deep = b'{"model":"demo","messages":[{"role":"user","content":"x"}],"metadata":' + b'{"a":' * 200 + b"1" + \
            b"}" * 200 + b"}"
        status, _, body = s.post("/v1/chat/completions", deep)
        result(status == 400, "JSON of depth 200: 400", body)
        for name, data in (("repeated key", b'{"model":"demo","model":"x","messages":[]}'), ("no JSON", b"{"),
                           ("NUL", b'{"model":"a\\u0000b","messages":[]}'), ("bad UTF-8", b'{"model":"\xff"}'),
                           ("array", b"[]"), ("empty", b""), ("trailing", b"{} {}")):
            status, _, body = s.post("/v1/chat/completions", data)
            result(status == 400 and "error" in body, "400: " + name, status, body)
        for method, path, status in (("PUT", "/v1/models", 405), ("POST", "/v1/models", 405),
                                     ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405),
                                     ("GET", "/nothing", 404), ("GET", "/../../etc/passwd", 404),
                                     ("GET", "/page/../../x", 404), ("GET", "/v1/models/..%2f..%2fetc", 404)):
            got = s.request(method, path, "{}" if method != "GET" else None, JSON_TYPE)[0]
            result(got == status, "%s %s: %d" % (method, path, status), got)
        status, head, body = s.get("/", {"Accept": "text/html"})
        result(status == 200 and "default-src" in head.get("content-security-policy", ""), "the page has a policy", head)
        result(s.request("HEAD", "/health")[0] == 200, "HEAD where GET is")
        names = ["../../etc/passwd", "/etc/passwd", "./demo-model", "demo-model", "file:///etc/passwd", "demo/../demo",
                 "DEMO\u0000", "demo ", " demo", "demo\\", "~", "%2e%2e%2f", "models/x.gguf", "a" * 500,
                 "\u202edemo", "demo:../x", "qwen3-0.6b:/etc/passwd"]
        bad = []
        for name in names:
            status, _, body = s.post("/v1/chat/completions", chat("hi", model=name))
            if status not in (400, 404):
                bad.append("%r: %d" % (name, status))
        result(not bad, "model names that are none of the list lead nowhere", "\n".join(bad))
        status, _, body = s.post("/v1/chat/completions", chat("hi", model="no-such"))
        result(status == 404 and body["error"]["code"] == "model_not_found" and body["error"]["param"] == "model",
               "unknown model: 404 model_not_found", body)
        status, head, body = s.post("/v1/chat/completions", chat("hi", max_tokens=1, surprise=1, other_thing={}))
        result(status == 200 and "surprise" in head.get("x-slm-warning", ""), "unknown fields are named", head)
        status, _, body = s.post("/v1/chat/completions", chat("word " * 3000))
        result(status == 400 and body["error"]["code"] == "context_length_exceeded" and "1024" in body["error"]["message"],
               "overlong: 400 with both numbers", body)
        log = s.log()
        result("\x1b" not in log and "xxxxxxxxxx" not in log, "nothing of a body is in the log")


check_keys()
check_origins()
check_sizes()
finish()
