"""What does not fit is refused in one sentence: which argument, expected, got."""

import pytest
import torch

from mmvim.ops import scan, walk_conv, walks
from mmvim.ops.testing import scan_case

WALK = walks.bidirectional(6)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ({'u': torch.zeros(2, 2, 5, 5)}, ValueError, r'u: expected \(2\[, 2\], 6, 5\), got \(2, 2, 5, 5\)'),
        ({'u': torch.zeros(2, 3, 6, 5)}, ValueError, r'u: expected 3 axes, or 4 with K = 2 walks second, got'),
        ({'u': torch.zeros(6, 5)}, ValueError, 'u: expected 3 axes'),
        ({'delta': torch.zeros(2, 6, 4)}, ValueError, r'delta: expected \(2\[, 2\], 6, 5\), got \(2, 6, 4\)'),
        ({'delta': torch.zeros(1, 6, 5)}, ValueError, r'delta: expected \(2\[, 2\], 6, 5\), got \(1, 6, 5\)'),
        ({'B': torch.zeros(2, 6, 4)}, ValueError, r'B: expected \(2\[, 2\], 6, 3\), got \(2, 6, 4\)'),
        ({'C': torch.zeros(2, 3, 6)}, ValueError, r'C: expected \(2\[, 2\], 6, 3\), got \(2, 3, 6\)'),
        ({'A': -torch.ones(2, 4, 3)}, ValueError, r"A: expected \('1 or 2', 5, 3\), got \(2, 4, 3\)"),
        ({'A': -torch.ones(3, 5, 3)}, ValueError, r"A: expected \('1 or 2', 5, 3\), got \(3, 5, 3\)"),
        ({'A': torch.ones(2, 5, 3, dtype=torch.complex64)}, TypeError, 'A is complex: .* A must be real'),
        ({'D': torch.ones(5)}, ValueError, r"D: expected \('1 or 2', 5\), got \(5,\)"),
        ({'delta_bias': torch.ones(2, 6)}, ValueError, r"delta_bias: expected \('1 or 2', 5\), got \(2, 6\)"),
        ({'dt_weight': torch.ones(2, 4, 5)}, ValueError, r"dt_weight: expected \('1 or 2', 5, 5\), got \(2, 4, 5\)"),
        ({'dt_weight': torch.ones(2, 5, 3)}, ValueError, r'delta: expected \(2\[, 2\], 6, 3\), got \(2, 2, 6, 5\)'),
        ({'z': torch.ones(2, 2, 6, 5)}, ValueError, r'z: expected \(B, L, D\) = \(2, 6, 5\), got \(2, 2, 6, 5\)'),
        ({'u_order': 'raster'}, ValueError, "u_order='raster': expected 'token' or 'step'"),
        ({'param_order': None}, ValueError, "param_order=None: expected 'token' or 'step'"),
        ({'merge': 'mean'}, ValueError, "merge='mean': expected 'sum' or 'none'"),
        ({'backend': 'gpu'}, ValueError, "backend 'gpu': expected one of auto, cpu, cuda, mamba_ssm, torch"),
        ({'backend': 'cuda'}, RuntimeError, "backend 'cuda' takes cuda tensors, these are on cpu"),
        ({'C': torch.zeros(2, 6, 3, dtype=torch.bfloat16)}, TypeError, 'u, delta, B, C must have one dtype, got u'),
        ({'B': torch.zeros(2, 6, 3, device='meta')}, ValueError, 'B is on meta, the input on cpu: move all'),
        ({'A': -torch.ones(2, 5, 3, device='meta')}, ValueError, 'A is on meta'),
        ({name: torch.zeros(2, 6, 5).long() for name in ('u', 'delta')}, TypeError, 'must have one dtype'),
    ],
)  # fmt: skip
def test_scan(change, error, message):
    case = scan_case(WALK, dtype=torch.float32)
    scan(**case)
    with pytest.raises(error, match=message):
        scan(**{**case, **change})


@pytest.mark.parametrize('shape', [(0, 6, 5), (2, 6, 0)])
def test_scan_of_nothing(shape):
    case = scan_case(WALK, batch=shape[0], channels=shape[2], per_walk=False, dtype=torch.float32)
    with pytest.raises(ValueError, match=r'u: an empty batch, sequence or channel axis cannot be scanned'):
        scan(**case)


def test_scan_of_no_tokens():
    case = scan_case(walks.rows(0), per_walk=False, dtype=torch.float32)
    with pytest.raises(ValueError, match=r'empty .* cannot be scanned, got \(2, 0, 5\)'):
        scan(**case)


@pytest.mark.parametrize('dtype', [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_dtypes_that_cannot_be_scanned(dtype):
    case = scan_case(WALK, dtype=torch.float32)
    case |= {name: case[name].to(dtype) for name in ('u', 'delta', 'B', 'C')}
    with pytest.raises(TypeError, match=f'u: expected one of float32, bfloat16, float16, float64, got {dtype}'):
        scan(**case)
    with pytest.raises(TypeError, match=f'x: expected one of float32, bfloat16, float16, float64, got {dtype}'):
        walk_conv(case['u'][:, 0], torch.ones(2, 5, 4), walks=WALK)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ({'x': torch.zeros(2, 7, 5)}, ValueError, r'x: expected \(B, L, D\) with L = 6 .*, got \(2, 7, 5\)'),
        ({'x': torch.zeros(0, 6, 5)}, ValueError, r'no empty axis, got \(0, 6, 5\)'),
        ({'x': torch.zeros(2, 2, 6, 5)}, ValueError, r'x: expected \(B, L, D\)'),
        ({'weight': torch.zeros(1, 5, 4)}, ValueError, r'expected \(K, D, W\) = \(2, 5\) \+ W, got \(1, 5, 4\)'),
        ({'weight': torch.zeros(2, 5, 0)}, ValueError, r'got \(2, 5, 0\)'),
        ({'bias': torch.zeros(5)}, ValueError, r'bias: expected \(K, D\) = \(2, 5\), got \(5,\)'),
        ({'weight': torch.zeros(2, 5, 4, device='meta')}, ValueError, 'weight is on meta, the input on cpu'),
        ({'activation': 'relu'}, ValueError, "activation='relu': expected 'silu' or None"),
        ({'order': 'raster'}, ValueError, "order='raster': expected 'token' or 'step'"),
        ({'backend': 'cuda'}, RuntimeError, "backend 'cuda' takes cuda tensors"),
    ],
)  # fmt: skip
def test_walk_conv(change, error, message):
    case = {'x': torch.zeros(2, 6, 5), 'weight': torch.zeros(2, 5, 4), 'bias': torch.zeros(2, 5), 'walks': WALK}
    walk_conv(**case)
    with pytest.raises(error, match=message):
        walk_conv(**{**case, **change})
