# Images of paligemma-server. This file works with BuildKit and with Docker's older builder.
#
#   docker build --target cpu  -t paligemma-server:cpu .
#   docker build --target cuda -t paligemma-server:cuda .
#
# Name the target: without one, the older builder builds both images, and CUDA takes long.
#
# One binary holds the kernels for AVX2, AVX-VNNI and AVX-512 VNNI, and picks among them when it starts.

# ---- CPU: build

# rust-toolchain.toml is not copied, so Cargo uses the toolchain of this image.
FROM rust:1.95-slim-bookworm AS manifest
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY tests/support/Cargo.toml tests/support/
COPY kernels/Cargo.toml kernels/
# Placeholders for our sources, so that dependencies are built and cached without them.
RUN mkdir src benches kernels/src && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs benches/main.rs tests/support/lib.rs kernels/src/lib.rs

FROM manifest AS build-cpu
ARG PROFILE=dist
RUN cargo build --locked --profile $PROFILE --bin paligemma-server
COPY config config
COPY examples/images examples/images
COPY kernels kernels
COPY models/demo models/demo
COPY src src
COPY tools/release/share.sh tools/release/
# Cargo compares file times, and files from the build context may be older than the placeholders.
ARG REVISION=
RUN touch kernels/src/lib.rs src/lib.rs src/main.rs \
 && export ${REVISION:+BUILD_REVISION="$REVISION"} \
 && cargo build --locked --profile $PROFILE --bin paligemma-server \
 && install -D target/$PROFILE/paligemma-server /out/paligemma-server \
 && tools/release/share.sh /out/paligemma-server /out/share \
 && mkdir /out/cache

# ---- CPU: image

# This base has the C library and certificates, but no shell and no package manager. Its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot AS cpu
COPY --from=build-cpu /out/paligemma-server /usr/local/bin/paligemma-server
# Completions and manual pages, for whoever copies the binary out of the image.
COPY --from=build-cpu /out/share /usr/local/share
# A new volume gets the owner of the folder that it is mounted over.
COPY --from=build-cpu --chown=65532:65532 /out/cache /cache
ENV PALIGEMMA_HOST=0.0.0.0 HF_HOME=/cache
USER 65532:65532
VOLUME /cache
EXPOSE 8080
STOPSIGNAL SIGTERM
# The state is "starting" while a model is downloaded and loaded, for the start period at most.
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

# ---- CUDA: build

# x86-64 only. CUDA's compiler and libraries come from NVIDIA's wheels, which tools/gpu/toolkit.sh pins.
FROM manifest AS build-cuda
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3-pip \
 && rm -rf /var/lib/apt/lists/*
ARG PROFILE=dist
# The oldest GPUs to support, here Turing (T4, RTX 20), the oldest that CUDA 13 knows. For newer ones the
# driver compiles the kernels at the first start.
ARG CUDA_COMPUTE_CAP=75
COPY tools/gpu/build.sh tools/gpu/toolkit.sh tools/gpu/driver.sh tools/gpu/driver.c \
     tools/gpu/nvcc.sh tools/gpu/old-cards.cuh tools/gpu/
RUN tools/gpu/build.sh --locked --bin paligemma-server
COPY config config
COPY examples/images examples/images
COPY kernels kernels
COPY models/demo models/demo
COPY src src
COPY tools/release/share.sh tools/release/
ARG REVISION=
RUN touch kernels/src/lib.rs src/lib.rs src/main.rs \
 && export ${REVISION:+BUILD_REVISION="$REVISION"} \
 && tools/gpu/build.sh --locked --bin paligemma-server \
 && install -D target/cuda/$PROFILE/paligemma-server /out/paligemma-server \
 && mkdir /out/cache /out/lib \
 && cd target/cuda-toolkit/nvidia/cu13/lib \
 && cp libcublas.so.13 libcublasLt.so.13 libcudart.so.13 libcurand.so.10 libnvrtc.so.13 libnvrtc-builtins.so.13.0 /out/lib/ \
 && cd /src \
 && LD_LIBRARY_PATH=/out/lib tools/release/share.sh /out/paligemma-server /out/share

# ---- CUDA: image

# The image has no driver: NVIDIA's container toolkit adds that of the machine. It has the four CUDA
# libraries that the binary is linked with, and the compiler that cuBLAS opens when it needs one.
FROM gcr.io/distroless/cc-debian12:nonroot AS cuda
COPY --from=build-cuda /out/lib/ /usr/lib/x86_64-linux-gnu/
COPY --from=build-cuda /out/paligemma-server /usr/local/bin/paligemma-server
COPY --from=build-cuda /out/share /usr/local/share
COPY --from=build-cuda --chown=65532:65532 /out/cache /cache
# Because the device is named, a start without a GPU fails with the reason instead of using the CPU.
# Kernels that the driver compiles are cached beside the models.
ENV PALIGEMMA_HOST=0.0.0.0 HF_HOME=/cache PALIGEMMA_DEVICE=cuda CUDA_CACHE_PATH=/cache/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
VOLUME /cache
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=10s --start-period=30m --retries=3 CMD ["paligemma-server", "health"]
ENTRYPOINT ["paligemma-server"]
CMD ["serve"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="paligemma-server" \
      org.opencontainers.image.description="Serves PaliGemma and PaliGemma 2 over HTTP, on an NVIDIA GPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The image of a build without --target.
FROM cpu
