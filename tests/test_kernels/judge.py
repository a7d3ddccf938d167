"""Kernels against the reference in float64, on the same (rounded) arguments."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mmvim.ops import scan
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import EMULATED, assert_same, results

# Relative error allowed for outputs; gradients get three times as much.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
if EMULATED:
    del TOLERANCE[torch.float64]
ISA = 'MMVIM_CPU_ISA'


@contextmanager
def instruction_set(name: str) -> Iterator[str]:
    """Ask for an instruction set; yields the one that is taken."""
    os.environ[ISA] = name
    try:
        yield 'emulated' if EMULATED else torch.ops.mmvim.cpu_capability()
    finally:
        del os.environ[ISA]


def supported(name: str) -> bool:
    """Whether this processor runs the kernels of an instruction set."""
    with instruction_set(name) as taken:
        return taken == name


ISAS = [name for name in ('base', 'avx2', 'avx512', 'avx512_bf16', 'emulated') if supported(name)]


def doubled(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same values in float64."""
    return {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}


def judge(case: dict[str, Any], tolerance: float | None = None, **kwargs: Any) -> None:
    """Hold the kernels' output and all gradients against the reference."""
    want = results(lambda **arguments: scan_reference(**arguments)[0], doubled(case))
    got = results(scan, case, backend='cpu', **kwargs)
    assert all(got[f'd{k}'].dtype == v.dtype for k, v in case.items() if f'd{k}' in got)
    assert_same(got, want, tolerance or TOLERANCE[case['u'].dtype], gradients=3)
