#!/usr/bin/env bash
# Makes the base images that the Dockerfile and the compose file name, where they can't be pulled:
# from Debian's packages and this machine's Rust toolchain, under the same names. Images that are
# there already are kept.
#
# Needs root, debootstrap (installed if missing), docker and the Rust toolchain.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whether IMAGE is here now, or comes from a registry.
present() {
  docker image inspect "$1" >/dev/null 2>&1 || docker pull --quiet "$1" >/dev/null 2>&1
}

# Certificates that this machine trusts beside the usual ones reach the package registries from
# inside a build, too.
certificates() {
  cp /etc/ssl/certs/ca-certificates.crt "$work/"
}

# stand_in IMAGE NAME [tar arguments]: builds bases/NAME.Dockerfile as IMAGE.
stand_in() {
  local image=$1 name=$2
  shift 2
  present "$image" && return
  echo "making a stand-in for $image"
  certificates
  tar -c -C "$here/bases" "$name.Dockerfile" -C "$work" ca-certificates.crt "$@" |
    docker build --quiet --force-rm --tag "$image" --file "$name.Dockerfile" - >/dev/null
}

debian() {
  present debian:bookworm-slim && return
  echo "making a stand-in for debian:bookworm-slim"
  command -v debootstrap >/dev/null || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap
  } >/dev/null
  debootstrap --variant=minbase bookworm "$work/debian" >"$work/log" || { tail "$work/log" >&2; return 1; }
  rm -rf "$work/debian"/var/cache/apt/archives/*.deb "$work/debian"/var/lib/apt/lists/*
  tar -c -C "$work/debian" . | docker import --change 'CMD ["bash"]' - debian:bookworm-slim >/dev/null
}

sysroot=$(cd "$here" && rustc --print sysroot)
debian
stand_in rust:1.95-slim-bookworm rust -C "$sysroot" bin/cargo bin/rustc lib
stand_in gcr.io/distroless/cc-debian12:nonroot distroless
stand_in nginx:1.28-alpine nginx
stand_in prom/prometheus:v3.5.0 prometheus
