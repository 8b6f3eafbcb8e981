# The build stage can be replaced where the default is out of reach: --build-arg BUILDER=my/rust:1.95
ARG BUILDER=rust:1.95-bookworm
FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY bench bench
COPY tests/clients/tonic tests/clients/tonic
COPY src src
# Linked with the static C library: nothing but the binary is needed to run it. Naming the target keeps the flag
# away from build scripts and macros.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --package ebb --target "$target" \
 && install -D "target/$target/release/ebb" /out/ebb

FROM scratch
LABEL org.opencontainers.image.title="ebb" \
      org.opencontainers.image.description="A connection-draining sidecar: pods go away without losing a connection" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ebb /ebb
# By number, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
ENTRYPOINT ["/ebb"]
CMD ["proxy"]
