#!/usr/bin/env bash
# Proves the CUDA backend on a real GPU: builds, tests, looks for wrong accesses, measures beside PyTorch.
#   tools/gpu_check.sh                 all of it, in under 9 minutes on 16 cores
#   tools/gpu_check.sh test            the tests of devices, then those of the engine and the modules, on the first GPU
#   tools/gpu_check.sh sanitize        compute-sanitizer: memcheck, racecheck, initcheck, synccheck
#   tools/gpu_check.sh bench [MODEL]   times beside PyTorch's (python3 with torch and torchvision); resnet18 by default
# Needs nvcc, cmake, a C++20 compiler, and doctest, CLI11, nlohmann-json, Eigen, stb (tools/setup.sh installs the
# latter on Debian and Ubuntu). The build goes to build/gpu, what every step said to build/gpu/logs. Exit code 1 if
# something is wrong, 2 if something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/cuda/bin
logs=build/gpu/logs

stop() {
  echo "gpu_check.sh: $1" >&2
  exit "${2:-2}"
}

# Runs a command quietly; its end, where it fails.
logged() {
  local log=$logs/$1.log status=0
  shift
  mkdir -p "$logs"
  "$@" >"$log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || tail -n 25 "$log" >&2
  return "$status"
}

# For the first GPU only: that halves nvcc's work.
architecture() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 2>/dev/null | tr -d '. ' || true)
  case "$capability" in
    90) echo 90a ;;
    [1-9][0-9]*) echo 80 ;;
    *) echo "80;90a" ;;
  esac
}

build() {
  for tool in cmake nvcc; do
    command -v "$tool" >/dev/null || stop "$tool is missing"
  done
  [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || nvidia-smi -L >/dev/null 2>&1 || stop "there is no NVIDIA GPU"
  logged configure cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DGRAPNEL_CUDA=ON \
    "-DGRAPNEL_CUDA_ARCHITECTURES=$(architecture)" || stop "cmake cannot set up the build, see $logs/configure.log"
  logged build cmake --build build/gpu -j "$(nproc)" --target "$@" || stop "the build fails, see $logs/build.log" 1
}

build_tests() {
  build test_cuda "$@"
  out=$(build/gpu/tests/test_cuda -tc="operands on different devices*") || true
  if grep -q "skipped: no CUDA device" <<<"$out"; then stop "no CUDA device can be used"; fi
}

suites=(test_cuda test_engine test_nn)

run_suites() {
  local status=0
  logged test_cuda build/gpu/tests/test_cuda || status=1
  for suite in test_engine test_nn; do
    logged "$suite" env GRAPNEL_TEST_DEVICE=cuda "build/gpu/tests/$suite" || status=1
  done
  return "$status"
}

run_tests() {
  build_tests "${suites[@]}"
  if run_suites; then
    for suite in "${suites[@]}"; do tail -n 3 "$logs/$suite.log"; done
    return
  fi
  if GRAPNEL_DEPENDENT_LAUNCHES=0 run_suites 2>/dev/null; then
    stop "the tests fail, but not with GRAPNEL_DEPENDENT_LAUNCHES=0: a kernel does not wait for the one before" 1
  fi
  stop "the tests fail, see $logs" 1
}

sanitize() {
  command -v compute-sanitizer >/dev/null || stop "compute-sanitizer is missing (it comes with the CUDA toolkit)"
  build_tests
  wrong=()
  for tool in memcheck racecheck initcheck synccheck; do
    status=0
    logged "$tool" timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 1 build/gpu/tests/test_cuda \
      -tc="every operation*" || status=$?
    case "$status" in
      0) echo "$tool: $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$tool.log" | tail -n 1)" ;;
      124) echo "$tool: still at it after a minute, and no verdict" ;;
      *) wrong+=("$tool") ;;
    esac
  done
  [ ${#wrong[@]} -eq 0 ] || stop "${wrong[*]}: see the logs in $logs" 1
}

bench() {
  command -v python3 >/dev/null || stop "python3 is missing"
  build grapnel
  python3 tools/bench/gpu_compare.py build/gpu/tools/grapnel "$@"
}

# Every part, whatever becomes of the others.
all() {
  build "${suites[@]}" grapnel
  verdict=0
  for part in test sanitize bench; do
    status=0
    echo "== $part, after $SECONDS s"
    options=()
    [ "$part" != bench ] || options=(resnet18 --seconds $((SECONDS < 420 ? 480 - SECONDS : 60)))
    bash tools/gpu_check.sh "$part" "${options[@]}" || status=$?
    [ "$status" -eq 0 ] || [ "$verdict" -eq 1 ] || verdict=$status
  done
  exit "$verdict"
}

case "${1:-all}" in
  test) run_tests ;;
  sanitize) sanitize ;;
  bench) bench "${2:-resnet18}" "${@:3}" ;;
  all) all ;;
  *) sed -n '2,10p' "$0" | cut -c3- >&2; exit 2 ;;
esac
