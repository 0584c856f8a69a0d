#!/usr/bin/env bash
# Writes a binary's completions and manual pages where shells and `man` look below /usr/local/share.
#
#   tools/release/share.sh target/dist/paligemma-server FOLDER
set -euo pipefail
binary=$1 share=$2
name=paligemma-server

install -d "$share"/{bash-completion/completions,fish/vendor_completions.d,zsh/site-functions,man/man1}
"$binary" completions bash >"$share/bash-completion/completions/$name"
"$binary" completions fish >"$share/fish/vendor_completions.d/$name.fish"
"$binary" completions zsh >"$share/zsh/site-functions/_$name"

page=$("$binary" man)
echo "$page" >"$share/man/man1/$name.1"
# The page names those of the commands: paligemma\-server\-ask(1).
for command in $(sed -n 's/^paligemma\\-server\\-\([a-z]*\)(1)$/\1/p' <<<"$page"); do
  "$binary" man "$command" >"$share/man/man1/$name-$command.1"
done
