#!/bin/sh
# Posts one reading; 2xx is the acknowledgement. 429, 503 and 507: the same again later, it has its time and so is stored once.
set -eu
curl -sS --fail-with-body --retry 5 --max-time 30 \
  -H 'Content-Type: application/json' -d "{\"device\":\"pump-1\",\"time\":$(date +%s)000,\"values\":[210.25,null,3],\"note\":\"from curl\"}" \
  "${HTTP:-http://127.0.0.1:8080}/api/v1/sites/demo/readings"
