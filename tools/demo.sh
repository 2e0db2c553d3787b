#!/usr/bin/env bash
# Sets up, builds, and explains pictures with the built-in network: what it sees in them, and where.
#   tools/demo.sh [PICTURE...]
# Without pictures it takes the cat in tools/demo. The results land in out/demo; index.html shows them all.
set -euo pipefail
pictures=()
for picture in "$@"; do
  case $picture in
    -*) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  [ -r "$picture" ] || { echo "demo: cannot read $picture" >&2; exit 2; }
  pictures+=("$(realpath "$picture")")
done
cd "$(dirname "$0")/.."
[ ${#pictures[@]} -gt 0 ] || pictures=(tools/demo/chelsea.jpg)
tools/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)" --target grapnel_program
grapnel=build/release/tools/grapnel
# Larger than the pictures the network was trained on, for finer maps.
size=(--resize 160 --crop 160)
"$grapnel" classify "${pictures[@]}" "${size[@]}"
"$grapnel" explain "${pictures[@]}" "${size[@]}" --method all --out out/demo
for picture in "${pictures[@]}"; do
  "$grapnel" features "$picture" "${size[@]}" --layer conv1,layer1 --out "out/demo/features-$(basename "${picture%.*}")"
done
"$grapnel" report "${pictures[@]}" "${size[@]}" --out out/demo/index.html
echo "Open $(pwd)/out/demo/index.html in a browser."
