#!/usr/bin/env bash
# Everything about the CUDA kernels that can be checked without a GPU: they compile for every architecture without a
# warning, keep to their budget of registers (kernels/cuda/registers.txt) and spill none, the extension links, and the
# tests of the operators pass on the emulated kernels. Needs nvcc; any torch will do.
#
# usage: tools/check_cuda.sh [ARCHITECTURE...]     such as 90; all by default
#        tools/check_cuda.sh --rewrite             writes the budget anew
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-python}" kernels/check_cuda.py "$@"
[ "${1:-}" = --rewrite ] || tools/emulate_cuda.sh
