#!/usr/bin/env bash
# Installs by package name what building and testing need and this machine lacks (Debian, Ubuntu). Does nothing, and
# needs no rights, where all of it is present.
set -euo pipefail

has_header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]; }

missing=()
command -v g++ >/dev/null || command -v clang++ >/dev/null || missing+=(g++)
command -v cmake >/dev/null || missing+=(cmake)
command -v ninja >/dev/null || missing+=(ninja-build)
has_header eigen3/Eigen/Core || missing+=(libeigen3-dev)
has_header doctest/doctest.h || missing+=(doctest-dev)
has_header stb/stb_image.h || missing+=(libstb-dev)
has_header CLI/CLI.hpp || missing+=(libcli11-dev)
has_header nlohmann/json.hpp || missing+=(nlohmann-json3-dev)
command -v curl >/dev/null || missing+=(curl ca-certificates)  # tools/get_weights.sh
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: please install the equivalents of these Debian packages: ${missing[*]}" >&2
  exit 2
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: run as root, or install: ${missing[*]}" >&2; exit 2; }
  sudo=(sudo)
fi
echo "setup: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
