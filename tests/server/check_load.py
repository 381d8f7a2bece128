"""check_load.py - under load and attack: a bounded queue, clients that leave, clients that dawdle,
draining. Slow parts run beside each other."""
import concurrent.futures
import contextlib
import json
import os
import random
import signal
import socket
import struct
import threading
import time

from serving import Server, chat, finish, long_answer, post_bytes, result

SLOW = ("--isa", "ref", "--parallel", "2", "--chunk", "32")  # so that the phases of an answer can be met


def open_request(s, value, path="/v1/completions", timeout=30):
    c = s.connect(timeout)
    c.sendall(post_bytes(path, value))
    return c


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def leave(c, hard=False):
    """FIN, or RST"""
    if hard:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


def running(s):
    m = s.metrics()
    return m["slm_num_requests_running"], m["slm_num_requests_waiting"]


def check_overload():
    with Server(*SLOW, "--queue", "3") as s:
        held = [open_request(s, long_answer(stream=i % 2 == 0)) for i in range(5)]
        result(wait_for(lambda: running(s) == (2, 3)), "two run, three wait", running(s))
        before = time.monotonic()
        status, head, body = s.post("/v1/chat/completions", chat("hi"))
        took = time.monotonic() - before
        result(status == 429 and body["error"]["code"] == "server_overloaded", "the sixth gets 429", status, body)
        result(int(head["retry-after"]) >= 1 and int(head["retry-after-ms"]) >= 100 and
               head["x-should-retry"] == "true", "with when to try again", head)
        result(took < 0.5, "at once (%.0f ms)" % (took * 1e3))
        result(s.post("/v1/messages", {"model": "demo", "max_tokens": 4,
                                       "messages": [{"role": "user", "content": "hi"}]})[2]["error"]["type"]
               in ("overloaded_error", "rate_limit_error"), "in Anthropic's words")
        status, _, body = s.get("/health/ready")
        result(status == 503, "a full queue is not ready", body)
        result(s.get("/health")[0] == 200, "but alive")
        for c in held:
            c.close()
        result(s.wait_idle(), "when all leave, nothing runs or waits", running(s))
        result(s.get("/health/ready")[0] == 200, "and it is ready again")
        m = s.metrics()
        result(m['slm_requests_rejected_total{reason="queue_full"}'] == 2 and
               m['slm_requests_cancelled_total{phase="queue"}'] == 3, "refusals and leavers are counted", m)
        # with the queue in use, refused clients that come again when they are told to all get in
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            def insist(i):
                end = time.monotonic() + 150
                tries = 0
                while time.monotonic() < end:
                    status, head, body = s.post("/v1/completions", long_answer(max_tokens=20, seed=i))
                    if status == 200:
                        return tries
                    tries += 1
                    time.sleep(min(0.5, int(head["retry-after-ms"]) / 1000))
                return -1
            tries = list(pool.map(insist, range(32)))
        result(min(tries) >= 0, "32 clients that try again are all served (%d refusals)" % sum(tries))
    with Server(*SLOW, "--queue-tokens", "600") as s:
        held = [open_request(s, long_answer()) for _ in range(2)]
        wait_for(lambda: running(s)[0] == 2)
        held.append(open_request(s, {"model": "demo", "prompt": "word " * 400, "max_tokens": 1}))
        wait_for(lambda: running(s)[1] == 1)
        status = s.post("/v1/completions", {"model": "demo", "prompt": "word " * 400, "max_tokens": 1})[0]
        small = s.connect()
        small.sendall(post_bytes("/v1/completions", {"model": "demo", "prompt": "word", "max_tokens": 1}))
        result(status == 429 and wait_for(lambda: running(s)[1] == 2), "tokens that wait are bounded, too", status)
        for c in held + [small]:
            c.close()


def check_leavers():
    with Server(*SLOW) as s:
        for hard in (False, True):
            for stream in (False, True):
                name = "%s, %s" % ("reset" if hard else "closed", "stream" if stream else "whole")
                c = open_request(s, long_answer(stream=stream, n=2))
                ok = wait_for(lambda: running(s)[0] == 2)
                time.sleep(0.02)
                start = time.monotonic()
                leave(c, hard)
                ok = ok and wait_for(lambda: s.busy() == 0, 5)
                took = time.monotonic() - start
                result(ok and took < 0.5, "left while it writes (%s): free after %.0f ms" % (name, took * 1e3))
                c = open_request(s, {"model": "demo", "prompt": "%d word " % random.getrandbits(30) + "w " * 900,
                                     "max_tokens": 1, "stream": stream, "n": 2})
                seen = wait_for(lambda: s.busy() > 0, 2)
                start = time.monotonic()
                leave(c, hard)
                ok = wait_for(lambda: s.busy() == 0, 5)
                result(ok, "left while its prompt is read (%s%s): free after %.0f ms" % (
                    name, "" if seen else ", or before", (time.monotonic() - start) * 1e3))
                held = [open_request(s, long_answer()) for _ in range(2)]
                wait_for(lambda: running(s)[0] == 2)
                c = open_request(s, long_answer(stream=stream))
                waits = wait_for(lambda: running(s) == (2, 1))
                leave(c, hard)
                result(waits and wait_for(lambda: running(s)[1] == 0, 1), "left while it waits (%s)" % name, running(s))
                for h in held:
                    leave(h)
                wait_for(lambda: s.busy() == 0)
        m = s.metrics()
        result(m['slm_requests_cancelled_total{phase="decode"}'] >= 4 and
               m['slm_requests_cancelled_total{phase="queue"}'] >= 4, "phases are counted", m)
        for _ in range(200):  # gone, perhaps, before the request has been looked at
            c = s.connect()
            data = post_bytes("/v1/completions", long_answer(n=2))
            c.sendall(data[:20])
            time.sleep(0.003)
            c.sendall(data[20:])
            leave(c)
        result(wait_for(lambda: s.busy() == 0, 5), "200 that leave as soon as they have asked", running(s))
    leavers = int(os.environ.get("SLM_LEAVERS", "300"))
    with Server("--parallel", "3", "--queue", "8", "--isa", "ref", "--chunk", "32") as s:
        right = s.post("/v1/chat/completions", chat("What is the capital of Peru?"))[2]["choices"][0]["message"]
        fds = len(os.listdir("/proc/%d/fd" % s.process.pid))

        def one(i):
            rng = random.Random(i)
            with contextlib.suppress(OSError):
                c = open_request(s, long_answer(stream=rng.random() < 0.5, n=rng.choice((1, 1, 2, 5)),
                                                prompt="w " * rng.choice((1, 300, 900))))
                if rng.random() < 0.8:
                    time.sleep(rng.random() * 0.15)
                if rng.random() < 0.3:
                    c.settimeout(0.05)
                    with contextlib.suppress(OSError):
                        c.recv(rng.choice((1, 100, 5000)))
                leave(c, rng.random() < 0.5)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(one, range(leavers)))
        result(s.wait_idle(20), "%d clients that left at random phases leave nothing busy" % leavers, running(s))
        again = s.post("/v1/chat/completions", chat("What is the capital of Peru?"))[2]["choices"][0]["message"]
        result(again == right, "and the answer is what it was")
        result(wait_for(lambda: len(os.listdir("/proc/%d/fd" % s.process.pid)) <= fds + 1, 5), "no descriptor is left",
               fds, os.listdir("/proc/%d/fd" % s.process.pid))


def closed_after(c, seconds):
    """in how many seconds the server closed, None: not within that"""
    start = time.monotonic()
    c.settimeout(seconds)
    try:
        while c.recv(65536):
            pass
    except (TimeoutError, socket.timeout):
        return None
    except OSError:
        pass
    return time.monotonic() - start


def drip(c, data, every, stop):
    """a byte at a time until the server closes; how long that took"""
    start = time.monotonic()
    try:
        for i in range(len(data)):
            c.sendall(data[i:i + 1])
            if stop.wait(every):
                return None
            c.settimeout(0.001)
            try:
                if c.recv(1000) == b"":
                    return time.monotonic() - start
                return time.monotonic() - start
            except (TimeoutError, socket.timeout):
                pass
            c.settimeout(30)
    except OSError:
        pass
    return time.monotonic() - start


def check_dawdlers():
    with Server() as s, concurrent.futures.ThreadPoolExecutor(40) as pool:
        stop = threading.Event()
        request = post_bytes("/v1/chat/completions", chat("hi"))
        silent = pool.submit(closed_after, s.connect(), 20)
        heads = [pool.submit(drip, s.connect(), request, 0.3, stop) for _ in range(20)]
        body = post_bytes("/v1/chat/completions", b"{" + b" " * 3000)
        at = body.index(b"\r\n\r\n") + 4
        c = s.connect()
        c.sendall(body[:at])
        bodies = pool.submit(drip, c, body[at:], 0.5, stop)

        def reader():
            """asks for a long stream and takes nothing of it"""
            c = socket.socket()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.connect(("127.0.0.1", s.port))
            c.settimeout(60)
            c.sendall(post_bytes("/v1/completions", long_answer(stream=True, n=8, logprobs=20)))
            return c
        start = time.monotonic()
        slowest = 0
        while time.monotonic() - start < 11:
            before = time.monotonic()
            ok = s.post("/v1/chat/completions", chat("hi", max_tokens=3))[0] == 200
            slowest = max(slowest, time.monotonic() - before) if ok else 99
            time.sleep(0.2)
        result(slowest < 2, "others are served meanwhile (slowest %.0f ms)" % (slowest * 1e3))
        took = [f.result() for f in heads]
        result(all(t and 8 < t < 12 for t in took), "headers that drip are cut after 10 s in all", took)
        took = silent.result()
        result(took and 8 < took < 12, "who says nothing, too", took)
        readers = [reader() for _ in range(3)]
        took = bodies.result()
        result(took and 25 < took < 36, "a body that drips is cut after 30 s and 1 KiB/s", took)
        result(wait_for(lambda: s.metrics()['slm_connections_cut_total{reason="slow_reader"}'] >= 3, 45),
               "who does not read is cut", s.metrics()['slm_connections_cut_total{reason="slow_reader"}'])
        for c in readers:
            c.close()
        result(s.wait_idle(), "and nothing is left of it")
    with Server("--connections-per-ip", "5") as s:
        time.sleep(0.7)  # those that asked whether it is ready are gone by then
        held = [s.connect() for _ in range(5)]
        time.sleep(0.7)
        c = s.connect()
        c.settimeout(2)
        refused = False
        try:
            c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            refused = c.recv(100) == b""
        except ConnectionError:
            refused = True
        result(refused, "a sixth connection of one address is refused")
        held[0].close()
        result(wait_for(lambda: b"200" in s.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")),
               "and taken when one is closed")


def check_timeout():
    with Server(*SLOW, "--timeout", "1") as s:
        status, head, body = s.post("/v1/completions", long_answer(n=8, seed=1))
        result(status == 504 and head["x-should-retry"] == "false", "an answer over its time: 504", status, body)
        status, events, text = s.stream("/v1/completions", long_answer(n=8, stream=True))
        result(status == 200 and "error" in events[-2 if events[-1] == "[DONE]" else -1], "a stream: its error event",
               text[-500:])
        result(s.wait_idle(5), "and the places are free")


def check_drain():
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.settimeout(5)
    path = "/tmp/slm-notify-%d" % os.getpid()
    notify.bind(path)
    try:
        with Server("--isa", "ref", "--parallel", "8", "--chunk", "32", "--drain", "60", "--drain-delay", "1",
                    env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}) as s:
            result(notify.recv(1000) == b"READY=1", "READY=1 to the service manager")
            result(notify.recv(1000) == b"WATCHDOG=1", "and WATCHDOG=1 now and then")
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                streams = [pool.submit(s.stream, "/v1/completions", long_answer(stream=True, max_tokens=60))
                           for _ in range(4)]
                wholes = [pool.submit(s.post, "/v1/completions", long_answer(max_tokens=60)) for _ in range(2)]
                wait_for(lambda: s.busy() >= 5)
                s.process.send_signal(signal.SIGTERM)
                wait_for(lambda: s.get("/health/ready")[0] == 503, 2)
                result(s.get("/health/ready")[0] == 503, "ready says no at once")
                late = s.post("/v1/chat/completions", chat("hi", max_tokens=1))
                result(late[0] == 200, "requests are still taken for a moment", late)
                time.sleep(1.2)
                try:
                    late = s.post("/v1/chat/completions", chat("hi", max_tokens=1))[0]
                except OSError:
                    late = 503
                result(late == 503, "and then refused", late)
                done = [f.result() for f in streams]
                result(all(d[0] == 200 and d[1][-1] == "[DONE]" for d in done), "running streams end well",
                       [d[2][-200:] for d in done])
                result(all(f.result()[0] == 200 for f in wholes), "and so do whole answers")
            s.process.wait(60)
            result(s.process.returncode == 0, "exit status 0", s.process.returncode)
            notes = b""
            with contextlib.suppress(OSError):
                while b"STOPPING=1" not in notes:
                    notes = notify.recv(1000)
            result(b"STOPPING=1" in notes and b"EXTEND_TIMEOUT_USEC" in notes, "STOPPING=1 was told", notes)
    finally:
        notify.close()
        os.unlink(path)
    with Server(*SLOW, "--drain", "1") as s:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            stream = pool.submit(s.stream, "/v1/chat/completions", chat("One", ignore_eos=True, n=8, stream=True))
            whole = pool.submit(s.post, "/v1/completions", long_answer(n=8))
            messages = pool.submit(s.stream, "/v1/messages", {
                "model": "demo", "max_tokens": 900, "stream": True,
                "messages": [{"role": "user", "content": "Count from one to ten thousand."}]})
            wait_for(lambda: s.busy() >= 2)
            start = time.monotonic()
            s.process.send_signal(signal.SIGTERM)
            text = stream.result()[2]
            status = whole.result()
            messages.result()
            s.process.wait(20)
            took = time.monotonic() - start
        result('"error"' in text or "[DONE]" in text, "after the grace time a stream ends with an error event", text[-300:])
        result(status[0] in (200, 503), "and a whole answer with 503", status)
        result(took < 8, "all within %.1f s" % took)
    with Server(*SLOW, "--drain", "60") as s:
        c = open_request(s, long_answer(n=8, stream=True))
        wait_for(lambda: s.busy() >= 2)
        start = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        s.process.send_signal(signal.SIGTERM)
        s.process.wait(20)
        result(time.monotonic() - start < 4, "a second SIGTERM ends it at once (%.1f s)" % (time.monotonic() - start))
        c.close()


def check_log():
    with Server("--log-prompts") as s:
        s.post("/v1/chat/completions", chat("Secret \x1b[31m words\n{\"event\":\"forged\"}"))
        s.get("/x\x1b[31m\"y".replace("\x1b", "%1b").replace('"', "%22"))
        time.sleep(0.2)
        lines = s.log().splitlines()
        result(all(isinstance(json.loads(line), dict) for line in lines), "every line of the log is a JSON object", lines)
        result("\x1b" not in s.log() and not s.events("forged"), "nothing in it breaks out of its quotes")
        result("Secret" in s.log(), "with --log-prompts it has prompts")
        head = s.get("/health")[1]
        wait_for(lambda: any(e["id"] == head["x-request-id"] for e in s.events("request")), 2)
        result(any(e["id"] == head["x-request-id"] for e in s.events("request")), "x-request-id is in the log")
    with Server() as s:
        s.post("/v1/chat/completions", chat("Secret words"))
        result(s.wait_idle() and "Secret" not in s.log(), "without it, none")


PARTS = [check_overload, check_leavers, check_dawdlers, check_timeout, check_drain, check_log]
with concurrent.futures.ThreadPoolExecutor(2) as both:
    dawdle = both.submit(check_dawdlers)  # waits nearly all of its time
    for part in PARTS:
        if part is not check_dawdlers:
            part()
    dawdle.result()
finish()
