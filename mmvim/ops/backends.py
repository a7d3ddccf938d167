"""Which implementations of the scans are there, which one a call takes, and why not another.

``python -m mmvim.ops`` prints :func:`report`.
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch

from . import library  # noqa: F401  defines the operators that are asked about

BACKENDS = ('auto', 'cuda', 'cpu', 'torch')
OPERATORS = ('scan', 'scan_backward', 'walk_conv', 'walk_conv_backward')
PACKAGE = Path(__file__).parents[1]
IN_CHECKOUT = (PACKAGE.parent / 'kernels' / 'build.py').exists()
REBUILD = 'python kernels/build.py' if IN_CHECKOUT else 'MMVIM_BUILD=cpu pip install --no-deps --force-reinstall .'


class Backend(NamedTuple):
    """One row of the report.

    Attributes:
        name: ``'cpu'``, ``'cuda'`` or ``'torch'``.
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


def _load() -> str:
    """Load the compiled kernels; returns an empty string, or why there are none. Never raises: PyTorch does it too."""
    path = PACKAGE / '_C.abi3.so'
    if not path.exists():
        return 'not compiled (no C++ compiler at installation, or torch < 2.10)'
    try:
        torch.ops.load_library(path)
    except (OSError, RuntimeError) as error:
        return f'{path.name} does not load: {str(error).splitlines()[0]}'
    return ''


LOAD_FAILURE = _load()


# Asked for once: torch.compile cannot trace the question.
KERNELS = frozenset(
    device_type
    for device_type, key in (('cpu', 'CPU'), ('cuda', 'CUDA'))
    if all(torch._C._dispatch_has_kernel_for_dispatch_key(f'mmvim::{name}', key) for name in OPERATORS)
)


def has_kernels(device_type: str) -> bool:
    """Whether compiled kernels are registered for ``'cpu'`` or ``'cuda'`` tensors."""
    return device_type in KERNELS


def report() -> list[Backend]:
    """All backends, available or not."""
    if has_kernels('cpu'):
        cpu = Backend('cpu', 'cpu', True, f'compiled C++ kernels, {torch.ops.mmvim.cpu_capability()}')
    else:
        cpu = Backend('cpu', 'cpu', False, LOAD_FAILURE, REBUILD)
    if has_kernels('cuda'):
        cuda = Backend('cuda', 'cuda', True, 'compiled CUDA kernels')
    else:
        cuda = Backend('cuda', 'cuda', False, 'there are no CUDA kernels in this version')
    return [cpu, cuda, Backend('torch', 'any', True, 'plain PyTorch, slower')]


def resolve(backend: str, device: torch.device) -> str:
    """The suffix of the operators that a call takes: ``''`` for the dispatcher's choice, ``'_torch'`` for PyTorch.

    Args:
        backend: ``'auto'``, which the environment variable MMVIM_BACKEND overrides, or one of the others by name.
        device: Where the tensors are.

    Raises:
        ValueError: If there is no backend of that name.
        RuntimeError: If it is not available for tensors on ``device``.
    """
    if backend == 'auto':
        backend = os.environ.get('MMVIM_BACKEND', 'auto')
    if backend not in BACKENDS:
        raise ValueError(f'backend {backend!r}: expected one of {", ".join(BACKENDS)}')
    if backend in ('cpu', 'cuda'):
        if device.type != backend:
            raise RuntimeError(
                f"backend {backend!r} takes {backend} tensors, these are on {device}; use backend='auto'"
            )
        if not has_kernels(backend):
            row = next(row for row in report() if row.name == backend)
            remedy = f'; type: {row.remedy}' if row.remedy else ''
            raise RuntimeError(f'backend {backend!r} is not available: {row.reason}{remedy}')
    return '_torch' if backend == 'torch' else ''


def describe(device: torch.device | str) -> str:
    """One line for the head of a log: what scans on ``device`` run on, and on the slow path how to make it fast."""
    device = torch.device(device)
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    if resolve('auto', device) == '' and has_kernels(device.type):
        row = next(row for row in report() if row.name == device.type)
        return f'scans: {row.reason}{threads}'
    forced = os.environ.get('MMVIM_BACKEND')
    if forced:
        return f'scans: plain PyTorch{threads} (MMVIM_BACKEND={forced})'
    row = next((row for row in report() if row.name == device.type), None)
    reason = f' ({row.reason})' if row else ''
    faster = f'; faster: {row.remedy}' if row and row.remedy else ''
    return f'scans: plain PyTorch{threads}, the slow path{reason}{faster}'
