#!/bin/sh
# All tests: those of the page, and then the notebooks, beside the others, because both mostly wait.
# Usage: sh scripts/test.sh DIRECTORY-OF-PYTHON
set -u
said=$(mktemp)
(
  "$1/python" -m pytest tests/browser
  pages=$?
  TOKENSTREAM_DATABASE="$(mktemp -d)/transcripts.db" "$1/python" -m pytest --nbval --nbval-current-env notebooks
  notebooks=$?
  [ "$pages" -eq 0 ] && [ "$notebooks" -eq 0 ]
) >"$said" 2>&1 &
beside=$!
"$1/python" -m pytest --ignore=tests/browser
others=$?
wait "$beside"
beside=$?
cat "$said"
rm -f "$said"
[ "$others" -eq 0 ] && [ "$beside" -eq 0 ]
