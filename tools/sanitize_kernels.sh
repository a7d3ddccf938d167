#!/bin/bash
# Runs the kernel tests on a build of the kernels with address and undefined-behaviour sanitizers.
#
# usage: tools/sanitize_kernels.sh [pytest arguments]     default: a subset that touches every loop
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
compiler=${CXX:-g++}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

torch=$("$python" -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("torch").origin).parent)')
flags=$("$python" -c 'from kernels.build import COMPILE_FLAGS; print(*COMPILE_FLAGS)')
sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -O1 -Wno-psabi)

# The sanitized library goes into a copy, and so do the tests: pytest finds the package next to them.
cp -r mmvim tests pyproject.toml "$scratch"
rm -f "$scratch"/mmvim/_C*
for source in kernels/cpu/*.cpp kernels/binding/stable_cpu.cpp; do
    # shellcheck disable=SC2086  # the flags are words
    echo "$compiler $flags ${sanitize[*]} -Ikernels -isystem $torch/include -c $source -o $scratch/$(basename "$source").o"
done | xargs -P "$(nproc)" -I{} bash -c '{}'
"$compiler" -shared "${sanitize[@]}" "$scratch"/*.o -L"$torch/lib" -ltorch_cpu -lc10 -o "$scratch/mmvim/_C.abi3.so"

export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$scratch"
[ $# -gt 0 ] || set -- -k 'lengths or channels or taps or dtypes or segments or slices' tests/test_kernels
cd "$scratch"
# A report goes straight to the terminal: pytest would take what it captured with it when the process ends.
"$python" -m pytest -q -x --capture=sys -p no:cacheprovider "$@"
