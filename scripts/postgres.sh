#!/bin/sh
# A PostgreSQL server for the tests: one named by TOKENSTREAM_TEST_POSTGRES, one that is there, or Debian's package when root.
# Prints the directory of its programs; the tests start and stop a server of their own with them.
set -eu
if [ -n "${TOKENSTREAM_TEST_POSTGRES:-}" ]; then exit 0; fi
find_server() {
  for directory in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV) $(command -v pg_ctl 2>/dev/null | xargs -r dirname); do
    if [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then echo "$directory"; return 0; fi
  done
  return 1
}
if find_server; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  # no cluster of Debian's own: the tests make theirs
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
  if find_server; then exit 0; fi
fi
echo "The PostgreSQL tests need a server. Install it (Debian: apt-get install postgresql), or name a running one in TOKENSTREAM_TEST_POSTGRES." >&2
exit 1
