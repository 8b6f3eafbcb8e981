# The build stage can be replaced where the default is out of reach: --build-arg BUILDER=my/rust:1.95
ARG BUILDER=rust:1.95-bookworm
FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY bench bench
COPY tests/clients/tonic tests/clients/tonic
COPY tests/kubernetes tests/kubernetes
COPY src src
# Linked with the static C library: nothing but the binary is needed to run it. Naming the target keeps the flags away from build scripts and
# macros. The paths of this machine stay out of it, and so does the time (which the allocator would put into a message), so that it comes out the
# same elsewhere.
RUN export SOURCE_DATE_EPOCH=0 \
 && target="$(rustc --print host-tuple)" \
 && export RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs --remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
 && cargo build --release --locked --package ebb --target "$target" \
 && install -D --mode=0555 "target/$target/release/ebb" /out/ebb
# Seconds since 1970 that the file in the image is dated with: the same sources make the same layer.
ARG SOURCE_DATE_EPOCH=0
RUN touch --date="@$SOURCE_DATE_EPOCH" /out/ebb

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="ebb" \
      org.opencontainers.image.description="A connection-draining sidecar: pods go away without losing a connection" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /out/ebb /ebb
# By number, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
ENTRYPOINT ["/ebb"]
CMD ["proxy"]
