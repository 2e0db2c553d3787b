#!/usr/bin/env bash
# Measures Grapnel beside PyTorch, ONNX Runtime, ncnn and OpenVINO on the CPU: times, errors, memory, start-up, size.
#   tools/bench/compare.sh --quick     a smoke run of a minute, once everything is installed
#   tools/bench/compare.sh --help      what else there is
set -euo pipefail
command -v python3 >/dev/null || { echo "compare.sh: python3 (3.9 or later, with venv) is needed" >&2; exit 2; }
PYTHONPATH=$(cd "$(dirname "$0")" && pwd) exec python3 -m compare "$@"
