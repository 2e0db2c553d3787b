#!/usr/bin/env bash
# Proves the CUDA backend on a real GPU: builds, tests, looks for wrong accesses, measures beside PyTorch.
#   tools/gpu_check.sh                 all of it, in under 9 minutes
#   tools/gpu_check.sh test            the tests of devices, then those of the engine and the modules, on the first GPU
#   tools/gpu_check.sh sanitize        compute-sanitizer: memcheck, racecheck, initcheck, synccheck
#   tools/gpu_check.sh bench [MODEL]   times beside PyTorch's (python3 with torch and torchvision); resnet18 by default
# Needs nvcc, cmake, a C++20 compiler, and doctest, CLI11, nlohmann-json, Eigen, stb (tools/setup.sh installs the
# latter on Debian and Ubuntu). The build goes to build/gpu.
set -euo pipefail
cd "$(dirname "$0")/.."

build() {
  cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DGRAPNEL_CUDA=ON >/dev/null
  cmake --build build/gpu -j "$(nproc)" --target "$@" | tail -1
}

run_tests() {
  build test_cuda test_engine test_nn
  for run in test_cuda "GRAPNEL_TEST_DEVICE=cuda test_engine" "GRAPNEL_TEST_DEVICE=cuda test_nn"; do
    echo "== $run"
    code=0
    out=$(PATH="build/gpu/tests:$PATH" env $run) || code=$?
    if grep -q "skipped: no CUDA device" <<<"$out"; then
      echo "gpu_check.sh: no CUDA device can be used here" >&2
      exit 2
    fi
    if [ $code -ne 0 ]; then
      echo "$out"
      exit $code
    fi
    tail -4 <<<"$out"
  done
}

sanitize() {
  build test_cuda
  for tool in memcheck racecheck initcheck synccheck; do
    echo "== $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 build/gpu/tests/test_cuda -tc="every operation*" | tail -3
  done
}

bench() {
  build grapnel
  python3 tools/bench/gpu_compare.py build/gpu/tools/grapnel "${1:-resnet18}"
}

case "${1:-all}" in
  test) run_tests ;;
  sanitize) sanitize ;;
  bench) bench "${2:-}" ;;
  all) run_tests && sanitize && bench ;;
  *) sed -n '2,8p' "$0" | cut -c3- >&2; exit 2 ;;
esac
