#!/usr/bin/env bash
# Packs the binary, completions and manual pages: unpack it over /usr/local.
#
#   tools/release/pack.sh                      builds the binary first; writes target/paligemma-server-….tar.gz
#   tools/release/pack.sh BINARY FOLDER        packs this binary into an archive in FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
binary=${1:-$target/dist/paligemma-server}
folder=${2:-$target}
# `--version` says which commit it is.
[ $# -gt 0 ] || BUILD_REVISION=$(git rev-parse HEAD) cargo build --locked --profile dist --bin paligemma-server

version=$("$binary" --version | sed -n '1s/.* //p')
archive=$folder/paligemma-server-$version-$(uname -m)-linux.tar.gz
content=$(mktemp -d)
trap 'rm -rf "$content"' EXIT
install -D "$binary" "$content/bin/paligemma-server"
install -D -m 644 LICENSE "$content/share/doc/paligemma-server/LICENSE"
install -D -m 644 src/cli/drawing/font/LICENSE "$content/share/doc/paligemma-server/LICENSE.DejaVu"
tools/release/share.sh "$binary" "$content/share"
tar -czf "$archive" --owner=0 --group=0 -C "$content" bin share
echo "$archive"
