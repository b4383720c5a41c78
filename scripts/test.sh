#!/bin/sh
# All tests, in three lanes beside each other, because all of them wait often: those of the page; the front end's own and then the
# notebooks; and the others.
# Usage: sh scripts/test.sh DIRECTORY-OF-PYTHON
set -u
bin=$(cd "$1" && pwd)
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
"$bin/python" -m pytest tests/browser >"$said/pages" 2>&1 &
pages=$!
(
  (cd labextension && PATH="$bin:$PATH" jlpm test)
  front=$?
  TOKENSTREAM_DATABASE="$said/transcripts.db" "$bin/python" -m pytest --nbval --nbval-current-env notebooks
  notebooks=$?
  [ "$front" -eq 0 ] && [ "$notebooks" -eq 0 ]
) >"$said/notebooks" 2>&1 &
notebooks=$!
"$bin/python" -m pytest --ignore=tests/browser
others=$?
wait "$notebooks"
notebooks=$?
cat "$said/notebooks"
wait "$pages"
pages=$?
cat "$said/pages"
[ "$others" -eq 0 ] && [ "$notebooks" -eq 0 ] && [ "$pages" -eq 0 ]
