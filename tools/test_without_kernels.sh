#!/usr/bin/env bash
# Runs the tests of operators, of the shim and of Vim on a copy of the package without the compiled kernels: what a machine
# without a compiler has.
#
# usage: tools/test_without_kernels.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(command -v python)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cp -r mmvim tests pyproject.toml "$scratch"
rm -f "$scratch"/mmvim/_C*
cd "$scratch"
export PYTHONPATH=$scratch
[ $# -gt 0 ] || set -- tests/test_ops tests/test_shim tests/test_models/test_vim.py
"$python" -c 'from mmvim.ops import backends; assert not backends.has_kernels("cpu"), "the kernels are still there"'
"$python" -m pytest -q -p no:cacheprovider "$@"
