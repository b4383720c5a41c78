#!/bin/sh
# A browser for the tests: one that is there, or Debian's package when root.
set -eu
for name in "${TOKENSTREAM_CHROMIUM:-}" chromium chromium-browser google-chrome chrome; do
  if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null
  exit 0
fi
echo "The browser tests need Chromium. Install it (Debian: apt-get install chromium), or set TOKENSTREAM_CHROMIUM to one." >&2
exit 1
