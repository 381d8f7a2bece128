# packages.sh - sourced by ./start and ./check: installs what is missing, and nothing else.
# shellcheck shell=bash disable=SC2034
#
# A line is a Debian package and how to see that what it gives is there already (a command, a
# pkg-config module, a file), so that nothing is fetched, nor apt-get asked, when all is present.

build_packages='
gcc                  command gcc
libc6-dev            file /usr/include/stdio.h
make                 command make
pkg-config           command pkg-config
libjansson-dev       module jansson
libutf8proc-dev      module libutf8proc
libcurl4-gnutls-dev  module libcurl
libgnutls28-dev      module gnutls
libedit-dev          module libedit
libsqlite3-dev       module sqlite3
libmicrohttpd-dev    module libmicrohttpd
libjpeg62-turbo-dev  module libjpeg
libpng-dev           module libpng
libwebp-dev          module libwebpdemux
libseccomp-dev       module libseccomp
ca-certificates      file /etc/ssl/certs/ca-certificates.crt
'
test_packages='
libcmocka-dev        module cmocka
zlib1g-dev           module zlib
g++                  command g++
clang                command clang
cmake                command cmake
python3              command python3
mandoc               command mandoc
expect               command expect
shellcheck           command shellcheck
nodejs               command node
npm                  command npm
chromium             command chromium
haproxy              command haproxy
gcc-aarch64-linux-gnu  command aarch64-linux-gnu-gcc
libc6-dev-arm64-cross  file /usr/aarch64-linux-gnu/include/stdio.h
qemu-user            command qemu-aarch64
'

# there KIND NAME
there() {
    case $1 in
    command) command -v "$2" >/dev/null ;;
    module) command -v pkg-config >/dev/null && pkg-config --exists "$2" ;;
    file) [ -e "$2" ] ;;
    esac
}

# install_missing LIST
install_missing() {
    local package kind name missing=() root=()
    while read -r package kind name; do
        [ -z "$package" ] || there "$kind" "$name" || missing+=("$package")
    done <<<"$1"
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]} (Debian's names); install them and try again" >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "missing: ${missing[*]}; run as root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        root=(sudo)
    fi
    echo "installing ${missing[*]}" >&2
    local get=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
    # package lists may be absent or older than the archive: refresh them when a try fails
    "${get[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { "${get[@]}" update >&2 &&
            "${get[@]}" install -y --no-install-recommends "${missing[@]}" >&2; }
}
