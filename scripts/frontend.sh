#!/bin/sh
# Builds the front end and puts it where JupyterLab of this environment finds it.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
(cd labextension && jlpm build:prod)
target=.venv/share/jupyter/labextensions/tokenstream-magic
rm -rf "$target" && mkdir -p "$(dirname "$target")" && cp -r tokenstream_magic/labextension "$target"
cp labextension/install.json "$target/"
mkdir -p .venv/etc/jupyter && cp -r jupyter-config/. .venv/etc/jupyter/
