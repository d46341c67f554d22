#!/bin/sh
# Asks a device for its newest reading, its window and its archived readings, and the site for its devices.
set -eu
site="${HTTP:-http://127.0.0.1:8080}/api/v1/sites/demo"
for question in devices/pump-1/latest 'devices/pump-1/window?limit=10' \
  'devices/pump-1/readings?from=2026-01-01T00:00:00Z&limit=10' 'devices?limit=1000'; do
  curl -sS --fail-with-body --max-time 30 "$site/$question"
done
