#!/usr/bin/env bash
# Sets up, builds, and explains a picture: what the network sees in it, and where.
#   tools/demo.sh WEIGHTS PICTURE [CLASS_NAMES]
# WEIGHTS is a ResNet18 file, such as tools/get_weights.sh resnet18 fetches. The pictures land in out/demo.
set -euo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
weights=$(realpath "$1") picture=$(realpath "$2")
names=()
[ $# -eq 3 ] && names=(--class-names "$(realpath "$3")")
for file in "$weights" "$picture"; do
  [ -r "$file" ] || { echo "demo: cannot read $file" >&2; exit 2; }
done
cd "$(dirname "$0")/.."
tools/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)" --target grapnel_program
grapnel=build/release/tools/grapnel
model=(--model resnet18 --weights "$weights")
"$grapnel" classify "$picture" "${model[@]}" "${names[@]}"
"$grapnel" explain "$picture" "${model[@]}" "${names[@]}" --method cam,gradcam,guided,guided-gradcam --target top1 --out out/demo
"$grapnel" features "$picture" "${model[@]}" --layer layer1 --out out/demo
echo "See $(pwd)/out/demo"
