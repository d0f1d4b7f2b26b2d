#!/bin/sh
# Records values on servers of every version: versions.sh PORT15 PORT14 PORT16 PORT17 PORT18, with
# PGHOST and PGUSER set. The first server's values go to 15.tsv, of the others only what differs.
set -eu
cd "$(dirname "$0")"
out=../../protocol/tests/values
mkdir -p $out
for port in "$@"; do
    psql -X -q -p "$port" -c 'drop database if exists recorded_values' \
        -c "create database recorded_values encoding 'UTF8' template template0" postgres
    major=$(psql -X -A -t -p "$port" -c "select current_setting('server_version_num')::int / 10000" postgres)
    psql -X -q -p "$port" -f record.sql recorded_values | awk '!seen[$0]++' > $out/"$major".tsv
    psql -X -q -p "$port" -c 'drop database recorded_values' postgres
    if [ "$major" != 15 ]; then
        LC_ALL=C sort $out/15.tsv > $out/sorted.tmp
        LC_ALL=C sort $out/"$major".tsv | LC_ALL=C comm -13 $out/sorted.tmp - > $out/difference.tmp
        mv $out/difference.tmp $out/"$major".tsv
    fi
    rm -f $out/*.tmp
    wc -l $out/"$major".tsv
done
