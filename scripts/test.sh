#!/bin/sh
# All tests, in two lanes beside each other, because both wait often: those of the page and then the notebooks; the front end's own
# and then the others.
# Usage: sh scripts/test.sh DIRECTORY-OF-PYTHON
set -u
bin=$(cd "$1" && pwd)
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
(
  "$bin/python" -m pytest tests/browser
  pages=$?
  # a cell with hundreds of answers of the model waits for a processor that others use too
  TOKENSTREAM_DATABASE="$said/transcripts.db" "$bin/python" -m pytest --nbval --nbval-current-env --timeout=300 notebooks
  notebooks=$?
  [ "$pages" -eq 0 ] && [ "$notebooks" -eq 0 ]
) >"$said/beside" 2>&1 &
beside=$!
(cd labextension && PATH="$bin:$PATH" jlpm test)
front=$?
"$bin/python" -m pytest --ignore=tests/browser
others=$?
wait "$beside"
beside=$?
cat "$said/beside"
[ "$front" -eq 0 ] && [ "$others" -eq 0 ] && [ "$beside" -eq 0 ]
