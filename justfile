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

# A static binary, as the image has it
static:
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')"

# The image
image TAG="ebb:dev":
    docker build -t {{TAG}} .
