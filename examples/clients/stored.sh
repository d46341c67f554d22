#!/bin/sh
# Posts one reading and waits until the archive has it: the answer says "stored":true.
set -eu
curl -sS --fail-with-body --max-time 60 -H 'Content-Type: application/json' \
  -d "{\"device\":\"pump-1\",\"time\":$(date +%s)000,\"values\":[1.5,null,3],\"note\":\"kept until stored\"}" \
  "${HTTP:-http://127.0.0.1:8080}/api/v1/sites/demo/readings?wait=stored"
