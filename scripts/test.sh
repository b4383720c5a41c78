#!/bin/sh
# All tests: those of the page beside the others and the notebooks, because both mostly wait.
# Usage: sh scripts/test.sh DIRECTORY-OF-PYTHON
set -u
pages=$(mktemp)
"$1/python" -m pytest tests/browser >"$pages" 2>&1 &
browser=$!
"$1/python" -m pytest --ignore=tests/browser
others=$?
TOKENSTREAM_DATABASE="$(mktemp -d)/transcripts.db" "$1/python" -m pytest --nbval --nbval-current-env notebooks
notebooks=$?
wait "$browser"
browser=$?
cat "$pages"
rm -f "$pages"
[ "$others" -eq 0 ] && [ "$notebooks" -eq 0 ] && [ "$browser" -eq 0 ]
