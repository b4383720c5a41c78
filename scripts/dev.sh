#!/bin/sh
# The environment of who works on this: the front end is built beside the installation of the packages, which mostly waits.
# Usage: sh scripts/dev.sh DIRECTORY-OF-PYTHON
set -eu
cd "$(dirname "$0")/.."
bin=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install() { "$bin/python" -m pip install --quiet "$@"; }

"$bin/python" scripts/requirements.py build >"$work/build.txt"
"$bin/python" scripts/requirements.py run local dev >"$work/dev.txt"
install --requirement "$work/build.txt" editables # hatchling wants it for an editable installation
rm -rf tokenstream_magic/labextension
(cd labextension && export PATH="$bin:$PATH" && jlpm install --immutable && jlpm build:prod) >"$work/said" 2>&1 &
front=$!
packages=0
install --no-compile --requirement "$work/dev.txt" || packages=$? # what is imported is compiled then
wait "$front" || { cat "$work/said" >&2; exit 1; }
[ "$packages" -eq 0 ] || exit "$packages"
# the bundle is there, and so is everything else: neither is made again
PATH="$bin:$PATH" install --no-build-isolation --no-deps --editable .
