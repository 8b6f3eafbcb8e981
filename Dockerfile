# The build stage can be replaced where the default is out of reach: --build-arg BUILDER=my/rust:1.95. It has a C compiler for musl, and Rust's
# standard library for it (or rustup, and a way to its server).
ARG BUILDER=rust:1.95-alpine
FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY bench bench
COPY tests/clients/tonic tests/clients/tonic
COPY tests/kubernetes tests/kubernetes
COPY deploy/static deploy/static
COPY src src
# Linked with the static C library: nothing but the binary is needed to run it.
RUN deploy/static \
 && install -D -m 0555 target/*-unknown-linux-musl/release/ebb /out/ebb
# Seconds since 1970 that the file in the image is dated with: the same sources make the same layer.
ARG SOURCE_DATE_EPOCH=0
RUN touch -d "@$SOURCE_DATE_EPOCH" /out/ebb

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
