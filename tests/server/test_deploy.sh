#!/bin/bash
# test_deploy.sh - `slm deploy`: HAProxy takes what is written, sends prompts that begin alike to one of three
# servers, and loses no request when one of them is killed, drained or started again under load; the unit
# passes systemd's checks; the container file names what the program needs.
set -uo pipefail
. "$(dirname "$0")/../cli/cli_common.sh"

# ---- what is refused ----
refuses() { # NAME PATTERN ARGS...
    local name=$1 pattern=$2
    shift 2
    run deploy "$@"
    ends "$name" 2
    says "$name" "$pattern"
    result "$([ ! -s "$work/out" ] && echo 0 || echo 1)" "$name: nothing is written"
}
refuses 'unknown target' "called 'nginx'" nginx
refuses 'no servers' '--servers is required' haproxy
for bad in '' a a: :80 a:0 a:65536 a:80x 'a b:80' '[::1:80' '[]:80' -a:80 'a:80,' 'a:80,,b:80' $'a:80\nb' 'a:80 backup' 'é:80'; do
    refuses "servers '$(printf %q "$bad")'" 'no ADDRESS:PORT' haproxy --servers "$bad"
done
refuses 'a server twice' 'there twice' haproxy --servers a:80,b:80,a:80
refuses 'too many servers' 'more than 64' haproxy --servers "$(seq -s, -f 'h%g:80' 65)"
refuses 'a small buffer' 'from 16K' haproxy --servers a:80 --read-ahead 8K
refuses 'port 0' 'from 1 on' haproxy --servers a:80 --port 0
refuses 'a line break in a path' 'control characters' haproxy --servers a:80 --tls-cert $'a\nb.pem'
refuses 'a variable in a path' 'control characters' haproxy --servers a:80 --servers-ca "\$HOME/ca.pem"
refuses 'a word too many' 'options only' haproxy demo --servers a:80
refuses 'an option of another target' 'is for slm deploy systemd' haproxy --servers a:80 --keys /k
refuses 'servers of a unit' 'is for slm deploy haproxy' systemd --servers a:80
refuses 'an open unit without keys' 'there is no key' systemd --host 0.0.0.0
refuses 'keys by a relative path' 'from the root' systemd --keys keys.txt
refuses 'a quote in a model' 'quotes' systemd 'a"b'

# ---- systemd ----
run deploy systemd demo 'a b%c' --quiet
ends 'unit' 0
cp "$work/out" "$work/slm.service"
try 'the unit starts this program' grep -qxF "ExecStart=$slm serve \"demo\" \"a b%%c\" --host 127.0.0.1 --port 8080" "$work/slm.service"
result "$(diff <(grep -v ^ExecStart= packaging/slm.service) <(grep -v ^ExecStart= "$work/slm.service") >"$work/diff" && echo 0 || echo 1)" \
    'the rest is packaging/slm.service' "$work/diff"
run deploy systemd --host 0.0.0.0 --port 80 --keys /etc/slm/keys --quiet
ends 'open unit' 0
cp "$work/out" "$work/open.service"
for line in 'LoadCredential=slm-keys:/etc/slm/keys' 'AmbientCapabilities=CAP_NET_BIND_SERVICE' \
    'CapabilityBoundingSet=CAP_NET_BIND_SERVICE'; do
    try "open unit: $line" grep -qxF "$line" "$work/open.service"
done
grep -E '^IPAddress|^#LoadCredential' "$work/open.service" >"$work/left" || true
empty 'open unit: no limit on addresses, no key as a comment' "$work/left"
if command -v systemd-analyze >/dev/null; then
    for unit in slm open; do
        systemd-analyze verify --man=no "$work/$unit.service" >"$work/verify" 2>&1 || true
        empty "systemd takes $unit.service" "$work/verify"
        try "$unit.service is exposed by 2.0 at most" \
            systemd-analyze security --offline=true --threshold=20 "$work/$unit.service"
    done
else
    skipped 'systemd takes the unit' 'systemd-analyze is not installed'
fi

# ---- container ----
run deploy container
ends 'container' 0
result "$(cmp -s "$work/out" packaging/Containerfile && echo 0 || echo 1)" 'it is packaging/Containerfile'
mkdir -p "$work/context"
sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' packaging/Containerfile | tr ' ' '\n' | while read -r path; do
    (cd "$work/context" && mkdir -p "$(dirname "$path")") && cp -r "$path" "$work/context/$path" || echo "$path"
done >"$work/absent"
empty 'what it copies is there' "$work/absent"
try 'what it copies can be made' make -s -n -C "$work/context" BUILD="$work/none" all
if command -v dpkg >/dev/null && command -v readelf >/dev/null; then
    readelf -d "$slm" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | while read -r library; do
        package=$(dpkg -S "*/$library" 2>/dev/null | sed 's/:.*//' | head -n 1)
        case $package in '' | libc6* | libgcc*) continue ;; esac
        grep -qw -- "$package" <(sed -n '/^FROM.*slim$/,$p' packaging/Containerfile) || echo "$package for $library"
    done >"$work/absent"
    empty 'the image has the libraries that the program wants' "$work/absent"
else
    skipped 'the image has the libraries that the program wants' 'no dpkg or no readelf'
fi

# ---- HAProxy ----
if ! command -v haproxy >/dev/null; then
    skipped 'HAProxy in front of three servers' 'haproxy is not installed'
    finish
fi
valid() { # NAME ARGS...
    local name=$1
    shift
    run deploy haproxy "$@"
    ends "$name" 0
    cp "$work/out" "$work/check.cfg"
    haproxy -c -f "$work/check.cfg" >"$work/haproxy" 2>&1
    result $? "$name: HAProxy takes it" "$work/haproxy"
    grep -iE 'warning|alert' "$work/haproxy" >"$work/warned" || true
    empty "$name: without a warning" "$work/warned"
}
valid 'one server' --servers 127.0.0.1:9
valid 'IPv6, no statistics' --servers '[::1]:8081,[::1]:8082' --host '[::1]' --port 8443 --stats-port 0
valid 'everything set' --servers 127.0.0.1:1,localhost:2 --host '*' --parallel 16 --timeout 60 --queue-time 5 --read-ahead 1M
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 2 -subj /CN=localhost >/dev/null 2>&1
    cat "$work/cert.pem" "$work/key.pem" >"$work/both.pem"
    valid 'TLS on both sides' --servers 127.0.0.1:1,127.0.0.1:2 --tls-cert "$work/both.pem" --servers-ca "$work/cert.pem"
else
    skipped 'TLS' 'openssl is not installed'
fi

pids=()
trap 'kill "${pids[@]}" 2>/dev/null; rm -rf "$work"' EXIT
echo 'team sk-of-the-team-0123456789' >"$work/keys"
chmod 600 "$work/keys"
key=sk-of-the-team-0123456789
ports=(0 0 0)
server() { # I: starts server I, on its old port if it had one
    : >"$work/serve.$1"
    "$slm" serve demo --port "${ports[$1]}" --keys "$work/keys" >"$work/serve.$1" 2>"$work/serve.$1.err" &
    pids[$1]=$!
    local i
    for ((i = 0; i < 100; i++)); do
        ports[$1]=$(sed -n 's,^http://127.0.0.1:,,p' "$work/serve.$1")
        [ -z "${ports[$1]}" ] || return 0
        sleep 0.1
    done
    return 1
}
for i in 0 1 2; do try "server $i starts" server $i; done
for i in 0 1 2; do server_ports+=("127.0.0.1:${ports[$i]}"); done
read -r front stats < <(python3 -c 'import socket
a, b = socket.socket(), socket.socket()
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0)); print(a.getsockname()[1], b.getsockname()[1])')
valid 'three servers' --servers "$(IFS=,; echo "${server_ports[*]}")" --port "$front" --stats-port "$stats"
haproxy -f "$work/check.cfg" >"$work/balancer" 2>&1 &
pids[3]=$!
url=http://127.0.0.1:$front
answers() { # STATUS URL [CURL ARGS...]: within 10 s
    local i status=000
    for ((i = 0; i < 100; i++)); do
        status=$(curl -s -o "$work/body" -w '%{http_code}' --max-time 5 "${@:3}" "$2")
        [ "$status" != "$1" ] || return 0
        sleep 0.1
    done
    echo "$status"
    return 1
}
try 'the balancer is ready' answers 200 "$url/health/balancer"
try 'its statistics are on this machine' answers 200 "http://127.0.0.1:$stats/metrics"
try 'the page comes through' answers 200 "$url/" -H 'accept: text/html'
try 'a key is wanted' answers 401 "$url/v1/models"
try 'a key is passed on' answers 200 "$url/v1/models" -H "authorization: Bearer $key"

# client NAME EXPRESSION ARGS...: a Python expression over d is true of what deploy_load.py prints
client() {
    local name=$1 wanted=$2
    shift 2
    timeout 120 python3 tests/server/deploy_load.py "$url" $key "$@" >"$work/out" 2>"$work/err"
    status=$?
    json "$name" "$wanted"
    sed 's/^/# /' "$work/out"
}
client 'prompts that begin alike meet one server' 'd["share"] > 0.85 and len(d["servers"]) == 3' affinity
client 'and what it has evaluated' 'd["cached_later"] > 0.5 and d["status"] == {"200": 155}' affinity
client 'prompts of 60 KB as well' 'd["share"] > 0.85 and len(d["servers"]) > 1 and d["status"] == {"400": 30}' long 60000
client 'sessions by their id' 'd["share"] > 0.85 and len(d["servers"]) > 1' session
client 'answers are streamed' 'd["last"] == "data: [DONE]" and d["type"].startswith("text/event-stream") and d["pieces"] > 2' stream

# under_load NAME SECONDS COMMAND...: what happens while 12 clients ask
under_load() {
    local name=$1 seconds=$2 i
    shift 2
    rm -f "$work/sign"
    timeout 120 python3 tests/server/deploy_load.py "$url" $key load "$seconds" "$work/sign" >"$work/out" 2>"$work/err" &
    local clients=$!
    for ((i = 0; i < 300; i++)); do
        [ ! -e "$work/sign" ] || break
        sleep 0.1
    done
    "$@"
    wait $clients
    status=$?
    json "$name: no request fails" 'd["failed"] == {} and d["answered"] > 50 and len(d["servers"]) == 3'
    sed 's/^/# /' "$work/out"
}
killed() { kill -9 "${pids[0]}" && wait "${pids[0]}"; } 2>/dev/null
drained() { kill -TERM "${pids[1]}"; wait "${pids[1]}" 2>/dev/null; }
back() { server 0; }
under_load 'a server is killed' 8 killed
under_load 'it comes back' 6 back
under_load 'a server is drained' 6 drained

for i in 0 2; do kill -9 "${pids[$i]}" && wait "${pids[$i]}" 2>/dev/null; done
try 'without servers the balancer says so' answers 503 "$url/health/balancer"
try 'and so does a request' answers 503 "$url/v1/models"
try 'as clients read errors' grep -qF '"code":"server_overloaded"' "$work/body"

# ---- the container's health check, as it stands in the file ----
python3 - packaging/Containerfile >"$work/health.json" <<'PYTHON'
import json, re, sys
print(json.dumps(json.loads(re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", open(sys.argv[1]).read(), re.M).group(1))))
PYTHON
health() { python3 -c 'import json,subprocess,sys
sys.exit(subprocess.run([a.replace("/127.0.0.1/8080", "/127.0.0.1/" + sys.argv[2]) for a in json.load(open(sys.argv[1]))], timeout=10).returncode)' \
    "$work/health.json" "${ports[0]}"; }
try 'server 0 once more' server 0
try 'the health check of the container finds it' health
kill -9 "${pids[0]}"
wait "${pids[0]}" 2>/dev/null
status=0
health >"$work/health" 2>&1 || status=1
result $((1 - status)) 'and misses it' "$work/health"
finish
