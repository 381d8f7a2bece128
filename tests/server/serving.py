"""serving.py - what the checks of the server share: the real program on a port of its own, requests
with every byte under control, and results in TAP. Standard library only."""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SLM = os.path.join(ROOT, os.environ.get("SLM_BUILD", "build"), "slm")
if os.path.isabs(os.environ.get("SLM_BUILD", "")):
    SLM = os.path.join(os.environ["SLM_BUILD"], "slm")
JSON_TYPE = {"Content-Type": "application/json"}

_count = 0
_failed = 0
_lock = threading.Lock()


def result(ok, name, *details):
    """one line of TAP; what the details say follows when it failed"""
    global _count, _failed
    with _lock:
        _count += 1
        print("%sok %d - %s" % ("" if ok else "not ", _count, name), flush=True)
        if not ok:
            _failed += 1
            for detail in details:
                for line in str(detail)[:2000].splitlines()[:30]:
                    print("# " + line, flush=True)
    return ok


def finish():
    print("1..%d" % _count)
    sys.exit(1 if _failed else 0)


class Server:
    """slm serve with these arguments; a context manager. env: more of the environment"""

    def __init__(self, *args, env=None, tls=None, wait=True, models=("demo",)):
        self.home = tempfile.mkdtemp(prefix="slm-serve-")
        self.log_path = os.path.join(self.home, "log")
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith(("SLM_", "HF_", "OLLAMA_", "XDG_", "NOTIFY_", "WATCHDOG_"))}
        environment.update(HOME=self.home, SLM_HOME=os.path.join(self.home, "slm"), SLM_THREADS="1")
        environment.update(env or {})
        self.log_file = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [SLM, "serve", *models, "--port", "0", *args], stdout=subprocess.PIPE,
            stderr=self.log_file, env=environment, cwd=ROOT)
        self.tls = tls
        self.port = None
        line = self.process.stdout.readline().decode()
        match = re.search(r":(\d+)\s*$", line)
        if match:
            self.port = int(match.group(1))
            if wait:
                self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/health/ready")[0] == 200:
                    return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def stop(self, signals=(signal.SIGTERM, signal.SIGTERM)):
        """ends it; its exit status"""
        for number in signals:
            if self.process.poll() is None:
                self.process.send_signal(number)
                time.sleep(0.05)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            result(False, "the server ends when it is told to", self.log())
        self.process.stdout.close()
        self.log_file.close()
        status = self.process.returncode
        shutil.rmtree(self.home, ignore_errors=True)
        return status

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def events(self, name):
        """what the log has of one kind, as objects"""
        found = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found

    def connect(self, timeout=30):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.tls)
            s = context.wrap_socket(s, server_hostname="localhost")
        return s

    def request(self, method, path, body=None, headers=None, timeout=60):
        """status, headers in lower case, body"""
        s = self.connect(timeout)
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            c.sock = s
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            data = r.read()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, data
        finally:
            s.close()

    def get(self, path, headers=None, timeout=30):
        return self.request("GET", path, headers=headers, timeout=timeout)

    def post(self, path, value, headers=None, timeout=60):
        """status, headers, the body's JSON"""
        all_headers = dict(JSON_TYPE)
        all_headers.update(headers or {})
        data = value if isinstance(value, (bytes, str)) else json.dumps(value)
        status, head, body = self.request("POST", path, data, all_headers, timeout)
        try:
            return status, head, json.loads(body)
        except ValueError:
            return status, head, body.decode("utf-8", "replace")

    def raw(self, data, timeout=30):
        """bytes in, all bytes out until the server closes"""
        s = self.connect(timeout)
        try:
            s.sendall(data)
            out = b""
            with contextlib.suppress(ConnectionResetError, TimeoutError, socket.timeout):
                while True:
                    more = s.recv(65536)
                    if not more:
                        break
                    out += more
            return out
        finally:
            s.close()

    def stream(self, path, value, headers=None, timeout=60):
        """status, the data of the events of a stream as text, in order"""
        s = self.connect(timeout)
        try:
            all_headers = dict(JSON_TYPE)
            all_headers.update(headers or {})
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            c.sock = s
            c.request("POST", path, body=json.dumps(value), headers=all_headers)
            r = c.getresponse()
            text = r.read().decode()
            return r.status, [line[6:] for line in text.split("\n") if line.startswith("data: ")], text
        finally:
            s.close()

    def metrics(self, headers=None):
        """name with labels to value"""
        text = self.get("/metrics", headers)[2].decode()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def busy(self, headers=None):
        m = self.metrics(headers)
        return m["slm_num_requests_running"] + m["slm_num_requests_waiting"]

    def wait_idle(self, seconds=30, headers=None):
        """True when nothing runs or waits any more"""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.busy(headers) == 0:
                return True
            time.sleep(0.02)
        return False


def post_bytes(path, value, headers=None, host="127.0.0.1"):
    """a whole request as bytes, to be sent in pieces or left alone"""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(body))}
    head.update(headers or {})
    lines = ["POST %s HTTP/1.1" % path] + ["%s: %s" % kv for kv in head.items() if kv[1] is not None]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chat(text, **more):
    value = {"model": "demo", "messages": [{"role": "user", "content": text}], "temperature": 0}
    value.update(more)
    return value


def long_answer(**more):
    """a request that writes until the context is full, whatever the model would like"""
    return dict({"model": "demo", "prompt": "One two three", "ignore_eos": True, "temperature": 0,
                 "max_tokens": 900}, **more)
