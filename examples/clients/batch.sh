#!/bin/sh
# Posts readings of many devices, one on each line. HTTP takes JSON; the member makes the columnar batches.
set -eu
now=$(date +%s)
for n in $(seq 100); do
  printf '{"device":"curl-%d","time":%d000,"values":[%d,null,0.25]}\n' "$n" "$now" "$n"
done | curl -sS --fail-with-body --max-time 30 -H 'Content-Type: application/x-ndjson' --data-binary @- \
  "${HTTP:-http://127.0.0.1:8080}/api/v1/sites/demo/readings"
