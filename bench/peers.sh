#!/bin/bash
# peers.sh - installs what `slm bench --peer` compares with, and prints the command for it.
#
# usage: bench/peers.sh [MODEL_DIR...]
#            llama.cpp as Debian packages it, in a chroot of its own (it is in newer suites than most
#            machines run). Each MODEL_DIR is shown inside under its own path, read-only. Prints
#            "chroot DIR llama-bench". Needs root.
#        bench/peers.sh --node
#            llama.cpp as npm's node-llama-cpp ships it, driven by bench/node_peer.mjs, which takes
#            the same options. Prefills some types faster than Debian's build. Prints
#            "node .../node_peer.mjs".
#
#   slm bench model.gguf --peer "$(bench/peers.sh "$PWD")"
#
# Run it as often as you like: what is done is not done again. Nothing but the command goes to
# standard output. Packages come from the mirror that this machine's apt uses and from npm's own
# configuration. PEER_ROOT is the chroot (/opt/peer), PEER_SUITES the suites that are tried in order
# ("forky sid"), PEER_NODE the folder for npm (~/.cache/slm-peers).
set -euo pipefail

root=${PEER_ROOT:-/opt/peer}
suites=${PEER_SUITES:-forky sid}
node_dir=${PEER_NODE:-${XDG_CACHE_HOME:-$HOME/.cache}/slm-peers}
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive

say() { echo "peers: $*" >&2; }
die() {
    say "$@"
    exit 1
}
mounted() { findmnt --noheadings "$1" >/dev/null 2>&1; }

# ---- node-llama-cpp ----

if [ "${1:-}" = --node ]; then
    command -v npm >/dev/null && command -v node >/dev/null ||
        die "node and npm are missing (Debian: nodejs npm)"
    mkdir -p "$node_dir"
    [ -d "$node_dir/node_modules/node-llama-cpp" ] ||
        # no scripts: they would build from source what comes as a binary package
        npm install --prefix "$node_dir" --ignore-scripts --no-fund --no-audit node-llama-cpp >&2
    cp "$here/node_peer.mjs" "$node_dir/" # packages are looked for beside the script
    echo "node '$node_dir/node_peer.mjs'"
    exit 0
fi

# ---- llama.cpp of Debian ----

[ "$(id -u)" = 0 ] || die "the chroot needs root"

# Where this machine gets Debian's main archive from, without a suite.
mirror() {
    local found
    found=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 2>/dev/null |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
    [ -n "$found" ] || # no index was fetched yet
        found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^ *#' |
            grep -oE '[a-z+]+://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ')
    echo "${found%/}"
}

# make_root SUITE: a minimal system there; a half-made one is made again
make_root() {
    local suite=$1 script=/usr/share/debootstrap/scripts/$1
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    [ "$(cat "$root/etc/peer-suite" 2>/dev/null)" = "$suite" ] && return 0
    if [ -e "$root" ]; then
        [ -e "$root/debootstrap" ] || [ -e "$root/etc/peer-suite" ] ||
            die "$root is there and not from here: set PEER_ROOT"
        for m in proc sys dev; do
            if mounted "$root/$m"; then die "$root is half made and $root/$m mounted: unmount it"; fi
        done
        rm -rf --one-file-system "$root"
    fi
    mkdir -p "$root"
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$(mirror)" \
        "$script" >&2 || return 1
    echo "$suite" >"$root/etc/peer-suite"
}

install_llama() {
    command -v debootstrap >/dev/null ||
        apt-get -o DPkg::Lock::Timeout=300 -q install -y --no-install-recommends debootstrap >&2
    [ -n "$(mirror)" ] || die "apt names no mirror of Debian"
    # the date in a frozen mirror's index may have passed
    local apt=(chroot "$root" apt-get -q -o Acquire::Check-Valid-Until=false)
    for suite in $suites; do
        say "llama.cpp of $suite, in $root"
        make_root "$suite" && "${apt[@]}" update >&2 &&
            "${apt[@]}" install -y --no-install-recommends llama.cpp-tools llama.cpp-tools-extra >&2 &&
            [ -x "$root/usr/bin/llama-bench" ] && return 0
    done
    die "none of these suites gave llama.cpp: $suites"
}

[ -x "$root/usr/bin/llama-bench" ] || install_llama

# /proc for the number of processors, /dev for its random numbers and null
mounted "$root/proc" || mount -t proc proc "$root/proc" || say "going on without $root/proc"
mounted "$root/sys" || mount -t sysfs -o ro sys "$root/sys" || say "going on without $root/sys"
mounted "$root/dev" || mount --bind /dev "$root/dev" || say "going on without $root/dev"
for dir in "$@"; do
    dir=$(realpath -e "$dir")
    mounted "$root$dir" && continue
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir" && mount -o remount,bind,ro "$root$dir" ||
        die "$dir cannot be mounted below $root"
done
say "$(chroot "$root" llama-bench --version 2>&1 | sed -n '/^version/p' || true)"
echo "chroot $root llama-bench"
