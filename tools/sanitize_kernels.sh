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

# A copy of the package takes the sanitized library in, the working tree is left alone.
cp -r mmvim "$scratch/mmvim"
rm -f "$scratch"/mmvim/_C*
for source in kernels/cpu/*.cpp kernels/binding/*.cpp; do
    # shellcheck disable=SC2086  # the flags are words
    echo "$compiler $flags ${sanitize[*]} -Ikernels -isystem $torch/include -c $source -o $scratch/$(basename "$source").o"
done | xargs -P "$(nproc)" -I{} bash -c '{}'
"$compiler" -shared "${sanitize[@]}" "$scratch"/*.o -L"$torch/lib" -ltorch_cpu -lc10 -o "$scratch/mmvim/_C.abi3.so"

export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$scratch" PYTHONSAFEPATH=1
"$python" -c 'import mmvim, sys; sys.exit(not mmvim.__file__.startswith(sys.argv[1]))' "$scratch"
[ $# -gt 0 ] || set -- -k 'lengths or channels or dtypes or taps or walks or (segments and 64)' tests/test_kernels
"$python" -m pytest -q -x -p no:cacheprovider "$@"
