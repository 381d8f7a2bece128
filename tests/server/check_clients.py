"""check_clients.py - real clients of other makers against the server: usage: check_clients.py FOLDER
FOLDER has their packages; the checks of tests/server/clients run from a copy beside them."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

from serving import ROOT, Server, finish, result

KEY = "sk-clients-0123456789abcdef"
CLIENTS = ["openai", "anthropic", "ollama", "aisdk"]


def check_client(name, folder, env):
    """every line of what it prints is a result"""
    run = subprocess.run(["node", name + ".mjs"], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=400, check=False)
    n = 0
    for line in run.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith("{"):
            n += 1
            v = json.loads(line)
            result(v["ok"], "%s: %s" % (name, v["name"]), v.get("why", ""))
    if run.returncode != 0 or n == 0:
        result(False, "%s runs to its end" % name, run.stderr.decode("utf-8", "replace"))


def main(folder):
    source = os.path.join(ROOT, "tests", "server", "clients")
    for name in os.listdir(source):
        if name.endswith(".mjs"):
            shutil.copy(os.path.join(source, name), folder)
    with tempfile.TemporaryDirectory() as keys:
        path = os.path.join(keys, "keys")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as f:
            f.write("clients %s\n" % KEY)
        with Server() as open_one, Server("--keys", path) as keyed, \
                Server("--parallel", "1", "--queue", "1") as narrow:
            env = dict(os.environ, SLM_KEY=KEY)
            for key, server in (("SLM_URL", open_one), ("SLM_URL_KEYED", keyed), ("SLM_URL_NARROW", narrow)):
                env[key] = "http://127.0.0.1:%d" % server.port
            for name in CLIENTS:
                check_client(name, folder, env)
    finish()


main(sys.argv[1])
