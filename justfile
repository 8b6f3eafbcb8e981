# Every command a contributor needs. `just` alone lists them.

_default:
    @just --list

# What CI runs
ci:
    bash .ci/run

# A rolling update on this machine: what each strategy loses
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# The tests
test *ARGS:
    cargo test {{ARGS}}

# Format, then lint as CI does
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# The documentation, private items included
doc:
    cargo doc --workspace --no-deps --document-private-items

# What is lost when a proxy is told to go: ebb, nginx, HAProxy
loss *ARGS:
    cargo build --release --workspace
    target/release/loss {{ARGS}}

# What everybody costs and loses: ebb, nginx, HAProxy, Envoy, Caddy. Alone: an hour, and bench/RESULTS.md; `quick`: under five minutes
bench *ARGS:
    bench/run {{ARGS}}

# Pods go away on a real Kubernetes, under clients of every kind: tests/kubernetes/README.md
[positional-arguments]
e2e *ARGS:
    tests/kubernetes/run "$@"

# Half an hour of clients that come and go: does anything grow?
soak *ARGS:
    cargo build --release --workspace
    target/release/soak {{ARGS}}

# A static binary, as the image has it
static:
    deploy/static

# The image
image TAG="ebb:dev":
    docker build -t {{TAG}} --build-arg VERSION="$(cargo pkgid | sed 's/.*[#@]//')" --build-arg REVISION="$(git rev-parse HEAD)" \
        --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" .

# The image's binary, built twice in two places: the same? `just reproducible --config 'profile.release.lto=false'` is quicker
reproducible *ARGS:
    deploy/reproducible {{ARGS}}

# What is in the binary, as CycloneDX: target/ebb.cdx.json
sbom:
    cargo install --quiet --locked --root target/tools/cargo --version 0.5.9 cargo-cyclonedx
    target/tools/cargo/bin/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --target "$(uname -m)-unknown-linux-musl" --override-filename ebb.cdx
    mv ebb.cdx.json target/
    find bench tests -name ebb.cdx.json -delete

# What is in deploy/, by the tools that others use it with; --write makes prometheusrule.yaml out of rules.yaml
deploy *ARGS:
    deploy/check {{ARGS}}

# Every query of the dashboard against a real Prometheus and a real ebb
monitoring:
    cargo build
    bash -c '. deploy/tools.sh && need prometheus && deploy/monitoring/live prometheus'
