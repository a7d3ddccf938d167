#!/usr/bin/env bash
# Checks and measures the CUDA kernels on the GPU at hand. Needs torch and nvcc, no package of OpenMMLab.
#
# usage: tools/gpu_check.sh build | check | sanitize | bench | peers [options]
#   build      kernels for the present card (TORCH_CUDA_ARCH_LIST overrides which), then loads them
#   check      outputs and all gradients against the fp64 reference, bits repeated, graphs, streams, large tensors
#   sanitize   compute-sanitizer: memcheck, racecheck, initcheck, synccheck on small shapes
#   bench      scans, convolution, mixers and whole backbones, against PyTorch, DeiT and Swin
#   peers      the same shapes on mamba-ssm and causal-conv1d, compiled from sources in MMVIM_PEERS
#   options    --quick (small shapes), --only PART..., --minutes N (9 at most, 9 by default), --device cpu (a dry run of
#              the logic, no measurement)
#
# Each phase takes less than 9 minutes and needs nothing of the others but the build. Results: Markdown and JSON in $OUT,
# or gpu_check_out. PYTHON is the interpreter (default: python3). The exit code is not 0 when something failed.
set -euo pipefail
cd "$(dirname "$0")/.."
phase=${1:-}
case $phase in
    build | check | sanitize | bench | peers) ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
shift
export PYTHONUNBUFFERED=1
exec timeout --signal=INT --kill-after=10 540 "${PYTHON:-python3}" "benchmarks/gpu/$phase.py" "$@"
