"""Compile what is needed of mamba-ssm and causal-conv1d for a comparison: bf16 inputs, real fp32 parameters."""

import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

KEPT = ('at::BFloat16', 'float')
FLAGS = ['-O3', '--expt-relaxed-constexpr', '--expt-extended-lambda', '--use_fast_math', '-U__CUDA_NO_HALF_OPERATORS__',
         '-U__CUDA_NO_HALF_CONVERSIONS__', '-U__CUDA_NO_BFLOAT16_OPERATORS__', '-U__CUDA_NO_BFLOAT16_CONVERSIONS__',
         '-U__CUDA_NO_BFLOAT162_OPERATORS__', '-U__CUDA_NO_BFLOAT162_CONVERSIONS__']  # fmt: skip
WHAT_TO_PUT = (
    'MMVIM_PEERS must name a folder with the source packages of mamba-ssm and causal-conv1d, as .tar.gz or unpacked. '
    'Where there is a network: pip download --no-deps --no-binary :all: --no-build-isolation -d peers mamba-ssm '
    'causal-conv1d (with MAMBA_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE), then MMVIM_PEERS=peers'
)
_INSTANCE = re.compile(r'^template\s+void\s+(\w+)<\s*([\w:]+)\s*,\s*([\w:]+)\s*>\s*\(\s*(\w+)\s*&[^;]*;', re.M)


class MissingPeers(RuntimeError):
    """The sources are not there; the message says what to put where."""


def find_sources(folder: str | None, scratch: Path) -> dict[str, Path]:
    """The unpacked packages, ``{'selective_scan_cuda': folder of its sources, 'causal_conv1d_cuda': ...}``.

    Raises:
        MissingPeers: If one of them is not there.
    """
    if not folder or not Path(folder).is_dir():
        raise MissingPeers(WHAT_TO_PUT)
    for archive in Path(folder).glob('*.tar.gz'):
        with tarfile.open(archive) as file:
            file.extractall(scratch, filter='data')
    found = {}
    for module, main in (('selective_scan_cuda', 'selective_scan.cpp'), ('causal_conv1d_cuda', 'causal_conv1d.cpp')):
        paths = sorted({*scratch.rglob(main), *Path(folder).rglob(main)})
        if not paths:
            raise MissingPeers(f'there is no {main} in {folder}. {WHAT_TO_PUT}')
        found[module] = paths[0].parent
    return found


def trim(sources: Sequence[Path], out: Path) -> list[Path]:
    """Copies of .cu files that are instantiated for :data:`KEPT` alone, and a file of stubs for the rest.

    Without the stubs the module would not load: it refers to every instance. Files with nothing left are dropped.
    """
    kept, stubs = [], {}
    for source in sources:
        text = source.read_text()
        for name, inputs, weights, parameters in _INSTANCE.findall(text):
            if (inputs, weights) != KEPT:
                stubs.setdefault((name, parameters), []).append((inputs, weights))
        text = _INSTANCE.sub(lambda match: match[0] if match.group(2, 3) == KEPT else '', text)
        if _INSTANCE.search(text):
            kept.append(out / source.name)
            kept[-1].write_text(text)
    header = next(
        path for path in sources[0].parent.glob('*.h') if path.name in ('selective_scan.h', 'causal_conv1d.h')
    )
    lines = ['#include <ATen/ATen.h>', '#include <c10/cuda/CUDAStream.h>', f'#include "{header.name}"']
    for (name, parameters), instances in stubs.items():
        lines.append('template <typename input_t, typename weight_t>')
        lines.append(f'void {name}({parameters}&, cudaStream_t) {{ TORCH_CHECK(false, "left out of this build"); }}')
        for inputs, weights in dict.fromkeys(instances):
            weights = weights.replace('complex_t', 'c10::complex<float>')
            lines.append(f'template void {name}<{inputs}, {weights}>({parameters}&, cudaStream_t);')
    (out / 'stubs.cpp').write_text('\n'.join(lines) + '\n')
    return [*kept, out / 'stubs.cpp']


def build(module: str, folder: Path, scratch: Path) -> ModuleType:
    """Compile and import one of the two extensions for the present card."""
    from torch.utils.cpp_extension import load

    out = scratch / module
    out.mkdir()
    main = folder / f'{module.removesuffix("_cuda")}.cpp'
    capability = '{}.{}'.format(*torch.cuda.get_device_capability())
    os.environ.setdefault('TORCH_CUDA_ARCH_LIST', capability)
    return load(
        module,
        [str(main), *map(str, trim(sorted(folder.glob('*.cu')), out))],
        extra_include_paths=[str(folder)],
        extra_cflags=['-O3'],
        extra_cuda_cflags=FLAGS,
        build_directory=str(out),
    )
