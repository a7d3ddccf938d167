#!/usr/bin/env bash
# Compares random scans, extreme values among them, with a loop in float64 (tests/test_ops/fuzz.py): results, last states
# and every gradient of every backend for the CPU. A case is its number: what failed can be run again by it alone.
#
# usage: tools/fuzz_scan.sh [CASES] [FIRST]     default: 10000 cases from 1 on
#        MMVIM_FUZZ_CASES=500 tools/emulate_cuda.sh --fast tests/test_ops/test_fuzz.py     the same on the CUDA kernels
set -euo pipefail
cd "$(dirname "$0")/.."
export MMVIM_FUZZ_CASES=${1:-10000} MMVIM_FUZZ_FIRST=${2:-1}
exec "${PYTHON:-python}" -m pytest -q -p no:cacheprovider tests/test_ops/test_fuzz.py
