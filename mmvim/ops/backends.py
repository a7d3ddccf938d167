"""Which implementations of the scans are there, which one a call takes, and why not another.

``python -m mmvim.ops`` prints :func:`report`.
"""

import os
import re
import shutil
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from mmvim.errors import UserRuntimeError, UserValueError

from . import (
    library,  # noqa: F401  defines the operators that are asked about
    mamba_backend,
)

BACKENDS = ('auto', 'cpu', 'cuda', 'mamba_ssm', 'torch')
OPERATORS = ('scan', 'scan_backward', 'walk_conv', 'walk_conv_backward')
PACKAGE = Path(__file__).parents[1]
IMPORTED_BY = os.getpid()  # another process that has this module was forked
IN_CHECKOUT = (PACKAGE.parent / 'kernels' / 'build.py').exists()
REBUILD = 'python kernels/build.py' if IN_CHECKOUT else 'MMVIM_BUILD=cpu pip install --no-deps --force-reinstall .'
REBUILD_CUDA = 'MMVIM_BUILD=cuda ' + REBUILD.removeprefix('MMVIM_BUILD=cpu ')


class Implementation(Enum):
    """What a call goes to."""

    DISPATCHED = 'what is registered for the device: compiled kernels, or else PyTorch'
    TORCH = 'PyTorch'
    MAMBA_SSM = 'mamba-ssm and causal-conv1d'


class Backend(NamedTuple):
    """One row of the report.

    Attributes:
        name: ``'cpu'``, ``'cuda'``, ``'mamba_ssm'`` or ``'torch'``.
        device: Tensors it takes: ``'cpu'``, ``'cuda'`` or ``'any'``.
        available: Whether it can be used now.
        reason: What it is, or why it is not available.
        remedy: What to type to get it; empty where it is available or cannot be had here.
    """

    name: str
    device: str
    available: bool
    reason: str
    remedy: str = ''


def _load(name: str) -> str:
    """Load a library of kernels; returns an empty string, or why there are none. Never raises: PyTorch does it too."""
    path = PACKAGE / f'{name}.abi3.so'
    if not path.exists():
        return 'not compiled'
    try:
        torch.ops.load_library(path)
    except (OSError, RuntimeError) as error:
        return f'{path.name} does not load: {str(error).splitlines()[0]}'
    return ''


# A library for CUDA cannot be loaded without torch's own.
LOAD_FAILURE = {'cpu': _load('_C'), 'cuda': _load('_C_cuda') if torch.version.cuda else 'not compiled'}

# Asked for once: torch.compile cannot trace the questions.
KERNELS = frozenset(
    device_type
    for device_type, key in (('cpu', 'CPU'), ('cuda', 'CUDA'))
    if all(torch._C._dispatch_has_kernel_for_dispatch_key(f'mmvim::{name}', key) for name in OPERATORS)
)
CUDA_ARCHITECTURES = torch.ops.mmvim.cuda_architectures() if 'cuda' in KERNELS else ''


def has_kernels(device_type: str) -> bool:
    """Whether compiled kernels are registered for ``'cpu'`` or ``'cuda'`` tensors."""
    return device_type in KERNELS


def report() -> list[Backend]:
    """All backends, available or not."""
    return [_ROWS[name]() for name in BACKENDS if name in _ROWS]


def _report_cpu() -> Backend:
    if has_kernels('cpu'):
        return Backend('cpu', 'cpu', True, f'compiled C++ kernels, {torch.ops.mmvim.cpu_capability()}')
    reason = LOAD_FAILURE['cpu']
    if reason == 'not compiled':
        reason += ' (no C++ compiler at installation, or torch < 2.10)'
    return Backend('cpu', 'cpu', False, reason, REBUILD)


def _report_cuda() -> Backend:
    if has_kernels('cuda'):
        reason = f'compiled CUDA kernels for {CUDA_ARCHITECTURES}'
        if not torch.cuda.is_available():
            return Backend('cuda', 'cuda', True, f'{reason}; no GPU is visible')
        for index in range(torch.cuda.device_count()):
            capability = torch.cuda.get_device_capability(index)
            if not _covers(CUDA_ARCHITECTURES, capability):
                card = f'{torch.cuda.get_device_name(index)} (compute capability {capability[0]}.{capability[1]})'
                remedy = f'TORCH_CUDA_ARCH_LIST={capability[0]}.{capability[1]} {REBUILD_CUDA}'
                return Backend('cuda', 'cuda', False, f'not compiled for {card}, only for {CUDA_ARCHITECTURES}', remedy)
            found = _trust().verdict('mmvim', torch.device('cuda', index))
            if found.problem:
                card = torch.cuda.get_device_name(index)
                reason += f', which failed their self-test on {card}: {found.problem} ({found.note})'
                return Backend('cuda', 'cuda', False, reason, 'MMVIM_BACKEND=cuda in front of the command, to insist')
            if found.problem is None:
                return Backend('cuda', 'cuda', True, f'{reason}, not tested ({found.note})')
        return Backend('cuda', 'cuda', True, f'{reason}; their self-test found them right')
    if not torch.version.cuda:
        return Backend('cuda', 'cuda', False, f'torch {torch.__version__} is not built for CUDA')
    reason, remedy = LOAD_FAILURE['cuda'], REBUILD_CUDA
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH') or '/usr/local/cuda'
    if reason == 'not compiled' and not (shutil.which('nvcc') or Path(home, 'bin', 'nvcc').exists()):
        reason += f'; no nvcc is found, which is part of the toolkit of CUDA {torch.version.cuda}'
        remedy = f'CUDA_HOME=/where/the/toolkit/is {REBUILD_CUDA}'
    return Backend('cuda', 'cuda', False, reason, remedy)


def _covers(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether kernels for ``'sm_80, sm_90a, compute_90 (PTX)'`` run on a card of a compute capability."""
    major, minor = capability
    for kind, number, suffix in re.findall(r'(sm|compute)_(\d+)([af]?)', architectures):
        built = divmod(int(number), 10)
        # Machine code runs on the same and later minor versions, PTX on all later cards, a suffix binds to one.
        same_family = built == capability if suffix else built[0] == major and built[1] <= minor
        if same_family or (kind == 'compute' and not suffix and built <= capability):
            return True
    return False


def _report_mamba_ssm() -> Backend:
    scan, conv = mamba_backend.find_scan(), mamba_backend.find_conv()
    if scan.reason:
        remedy = scan.remedy if torch.version.cuda else ''
        return Backend('mamba_ssm', 'cuda', False, scan.reason, remedy)
    if conv.reason:
        return Backend('mamba_ssm', 'cuda', True, f'{scan.name} for scans; no convolutions, {conv.reason}', conv.remedy)
    return Backend('mamba_ssm', 'cuda', True, f'{scan.name} and {conv.name}')


_ROWS = {
    'cpu': _report_cpu,
    'cuda': _report_cuda,
    'mamba_ssm': _report_mamba_ssm,
    'torch': lambda: Backend('torch', 'any', True, 'plain PyTorch, slower'),
}


def resolve(backend: str, device: torch.device, operator: str = 'scan', wide: bool = False) -> Implementation:
    """What a call goes to.

    Args:
        backend: ``'auto'``, which the environment variable MMVIM_BACKEND overrides, or one of the others by name.
        device: Where the tensors are.
        operator: ``'scan'`` or ``'walk_conv'``.
        wide: Whether float64 is among the dtypes, for which there is no code on a GPU but PyTorch's.

    Raises:
        ValueError: If there is no backend of that name.
        RuntimeError: If it is not available for tensors on ``device``.
    """
    if backend == 'auto':
        backend = os.environ.get('MMVIM_BACKEND', 'auto')
    if backend not in BACKENDS:
        raise UserValueError(f'backend {backend!r}: expected one of {", ".join(BACKENDS)}')
    if backend == 'auto':
        if device.type != 'cuda' or not (wide or has_kernels('cuda')):
            return Implementation.DISPATCHED
        if wide:
            return Implementation.TORCH
        return Implementation.DISPATCHED if _trust().passes('mmvim', device) else _instead(operator, device)
    if backend == 'torch':
        return Implementation.TORCH
    takes = 'cpu' if backend == 'cpu' else 'cuda'
    if device.type != takes:
        raise UserRuntimeError(f"backend {backend!r} takes {takes} tensors, these are on {device}; use backend='auto'")
    if wide and takes == 'cuda':
        raise UserRuntimeError(
            f"backend {backend!r} takes float32, bfloat16 and float16, got float64; use backend='auto' or 'torch'"
        )
    if backend == 'mamba_ssm':
        package = mamba_backend.find_scan() if operator == 'scan' else mamba_backend.find_conv()
        if package.reason:
            raise UserRuntimeError(f"backend 'mamba_ssm' is not available: {package.reason}; type: {package.remedy}")
        return Implementation.MAMBA_SSM
    if not has_kernels(backend):
        row = _ROWS[backend]()
        remedy = f'; type: {row.remedy}' if row.remedy else ''
        raise UserRuntimeError(f'backend {backend!r} is not available: {row.reason}{remedy}')
    return Implementation.DISPATCHED


def _trust() -> ModuleType:
    """:mod:`mmvim.ops.trust`, which only a process with a GPU needs."""
    from . import trust

    return trust


def _instead(operator: str, device: torch.device) -> Implementation:
    """What ``auto`` takes where mmvim's own kernels failed their self-test."""
    kernels = 'mamba_ssm' if operator == 'scan' else 'causal_conv1d'
    return Implementation.MAMBA_SSM if _trust().passes(kernels, device) else Implementation.TORCH


def describe(device: torch.device | str) -> str:
    """One line for the head of a log: what scans on ``device`` run on, and on the slow path how to make it fast."""
    device = torch.device(device)
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    taken = resolve('auto', device)
    row = _ROWS[device.type]() if device.type in _ROWS else None
    if taken is Implementation.MAMBA_SSM:
        asked = os.environ.get('MMVIM_BACKEND') == 'mamba_ssm'
        return f'scans: {_report_mamba_ssm().reason} ({"MMVIM_BACKEND=mamba_ssm" if asked else row.reason})'
    if taken is Implementation.DISPATCHED and has_kernels(device.type):
        remedy = '' if row.available else f'; type: {row.remedy}'
        return f'scans: {row.reason}{threads}{remedy}'
    forced = os.environ.get('MMVIM_BACKEND')
    if forced:
        return f'scans: plain PyTorch{threads} (MMVIM_BACKEND={forced})'
    reason = f' ({row.reason})' if row else ''
    faster = f'; faster: {row.remedy}' if row and row.remedy else ''
    return f'scans: plain PyTorch{threads}, the slow path{reason}{faster}'
