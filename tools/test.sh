#!/usr/bin/env bash
# Sets up, builds and tests, from a bare Debian or Ubuntu machine on.
#   tools/test.sh            the release build, then the sanitizer build (addresses and undefined behaviour)
#   tools/test.sh PRESET...  only these presets of CMakePresets.json
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
jobs=$(nproc)
for preset in "${@:-release sanitize}"; do
  for name in $preset; do
    echo "== $name =="
    cmake --preset "$name" >/dev/null
    cmake --build --preset "$name" -j "$jobs"
    ctest --preset "$name" -j "$jobs"
  done
done
