# Images of paligemma-server. Either builder of Docker takes this file, BuildKit or the older one.
#
#   docker build --target cpu  -t paligemma-server:cpu .
#   docker build --target cuda -t paligemma-server:cuda .
#
# CPU kernels for AVX2, AVX-512 and AMX are all in the one binary, which picks them when it starts.

# ---- CPU: build

# rust-toolchain.toml is not copied: the toolchain is this image's.
FROM rust:1.95-slim-bookworm AS manifest
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# Sources that stand for ours, so that dependencies are built, and cached, without them.
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs

FROM manifest AS build-cpu
ARG PROFILE=dist
RUN cargo build --locked --profile $PROFILE --bin paligemma-server
COPY config config
COPY examples/images examples/images
COPY models/demo models/demo
COPY src src
# Cargo goes by file times, and files of the build context may be older than what stood for them.
RUN touch src/lib.rs src/main.rs \
 && cargo build --locked --profile $PROFILE --bin paligemma-server \
 && install -D target/$PROFILE/paligemma-server /out/paligemma-server \
 && mkdir /out/cache

# ---- CPU: image

# The C library, certificates and nothing to run: no shell, no package manager. Its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot AS cpu
COPY --from=build-cpu /out/paligemma-server /usr/local/bin/paligemma-server
# A new volume takes over the owner of the folder that it covers.
COPY --from=build-cpu --chown=65532:65532 /out/cache /cache
ENV PALIGEMMA_HOST=0.0.0.0 HF_HOME=/cache
USER 65532:65532
VOLUME /cache
EXPOSE 8080
STOPSIGNAL SIGTERM
# Until a model is downloaded and loaded the state is "starting", for as long as the start period.
HEALTHCHECK --interval=5s --timeout=10s --start-period=30m --retries=3 CMD ["paligemma-server", "health"]
ENTRYPOINT ["paligemma-server"]
CMD ["serve"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="paligemma-server" \
      org.opencontainers.image.description="Serves PaliGemma and PaliGemma 2 over HTTP, on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
