#!/bin/sh
# Prints what the devices of a site say, as server-sent events.
set -eu
exec curl -sSN --fail-with-body "${HTTP:-http://127.0.0.1:8080}/api/v1/live?site=demo"
