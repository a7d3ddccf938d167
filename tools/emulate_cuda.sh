#!/usr/bin/env bash
# Runs the tests of the operators on the CUDA kernels, compiled for the host and run by kernels/cuda/emulator.h: no GPU
# and no nvcc. Shows errors of logic, of indices (address sanitizer) and of order (threads and blocks take their turns in
# another order: the bits must stay), not those of a real GPU's memory and rounding.
#
# usage: tools/emulate_cuda.sh [--fast] [pytest arguments]
#   --fast             without sanitizers
#   pytest arguments   default: a subset that touches every loop
# MMVIM_EMULATE_ORDER, MMVIM_EMULATE_MULTIPROCESSORS and MMVIM_EMULATE_SHARED_MEMORY: see docs/environment.md
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
compiler=${CXX:-g++}
name=sanitized
# Not all of "undefined": the rest doubles the time that templates take to compile.
options=(-O1 -g1 -fsanitize=address,alignment,bounds,shift,signed-integer-overflow -fno-sanitize-recover=all)
if [ "${1:-}" = --fast ]; then
    name=fast
    options=(-O2)
    shift
fi
torch=$("$python" -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("torch").origin).parent)')
flags=(-x c++ -std=c++20 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi
       -DMMVIM_EMULATE -DTORCH_TARGET_VERSION=0x020a000000000000 -Ikernels -isystem "$torch/include")

build=build/emulated-$name
mkdir -p "$build"
# Only what has changed is compiled again.
flock "$build" make -s -j "$(nproc)" -f - <<END
sources := $(echo kernels/cuda/*.cu) kernels/binding/stable_cuda.cpp
objects := \$(patsubst %,$build/%.o,\$(notdir \$(sources)))
$build/_C.abi3.so: \$(objects)
	$compiler -shared ${options[*]} \$^ -L$torch/lib -ltorch_cpu -lc10 -o \$@
define rule
$build/\$(notdir \$(1)).o: \$(1) tools/emulate_cuda.sh
	$compiler ${flags[*]} ${options[*]} -MMD -MP -c \$(1) -o \$\$@
endef
\$(foreach source,\$(sources),\$(eval \$(call rule,\$(source))))
-include \$(objects:.o=.d)
END

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r mmvim tests pyproject.toml "$scratch"
rm -f "$scratch"/mmvim/_C*
cp "$build/_C.abi3.so" "$scratch/mmvim"
if [ "$name" = sanitized ]; then
    LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
    export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
fi
export PYTHONPATH=$scratch OMP_NUM_THREADS=1 MMVIM_FUZZ_CASES=${MMVIM_FUZZ_CASES:-50}
export MMVIM_EMULATE_MULTIPROCESSORS=${MMVIM_EMULATE_MULTIPROCESSORS:-4}  # few, so that small tests see long segments too
export MMVIM_EMULATE_SHARED_MEMORY=${MMVIM_EMULATE_SHARED_MEMORY:-65536}  # the least of all cards: 7.5
# Left out is what is about the CPU's kernels (instruction sets, threads, how walks are cut, tables that no check has seen)
# or needs float64.
left_out='not visits_a_token_twice and not determinism and not plain_kernels and not many_small_segments and not gradcheck'
[ $# -gt 0 ] || set -- tests/test_kernels tests/test_ops/test_scan.py tests/test_ops/test_conv.py tests/test_ops/test_extremes.py tests/test_ops/test_fuzz.py tests/test_ops/test_self_test.py -k "$left_out"
cd "$scratch"
"$python" -c 'import torch; from mmvim.ops import backends; assert "emulated" in torch.ops.mmvim.cpu_capability()'
# A report goes straight to the terminal: pytest would take what it captured with it when the process ends.
"$python" -m pytest -q -x --capture=sys -p no:cacheprovider "$@"
