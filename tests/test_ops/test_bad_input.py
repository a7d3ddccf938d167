"""What does not fit is refused in one sentence: which argument, expected, got."""

import numpy as np
import pytest
import torch

from mmvim.ops import causal_conv1d_fn, scan, selective_scan_fn, walk_conv, walks
from mmvim.ops.testing import BACKENDS, TENSORS, results, scan_case

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


def test_scan_of_no_channels():
    case = scan_case(WALK, channels=0, per_walk=False, dtype=torch.float32)
    with pytest.raises(ValueError, match=r'u: an empty sequence or channel axis cannot be scanned, got \(2, 6, 0\)'):
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
        ({'x': torch.zeros(2, 6, 0)}, ValueError, r'neither L nor D empty, got \(2, 6, 0\)'),
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


TENSOR = 'expected a tensor, got'
NOT_A_TENSOR = [None, 3.0, [[1.0]], np.ones((2, 6, 5), np.float32)]


@pytest.mark.parametrize('value', NOT_A_TENSOR, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize('name', ['u', 'delta', 'A', 'B', 'C'])
def test_what_is_no_tensor(name, value):
    case = scan_case(WALK, dtype=torch.float32)
    with pytest.raises(TypeError, match=f'^{name}: {TENSOR} {type(value).__name__}$'):
        scan(**{**case, name: value})


@pytest.mark.parametrize('name', ['D', 'z', 'delta_bias', 'dt_weight'])
def test_optional_arguments_that_are_no_tensor(name):
    case = scan_case(WALK, dtype=torch.float32)
    with pytest.raises(TypeError, match=f'^{name}: expected a tensor or None, got float$'):
        scan(**{**case, name: 1.0})


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        ({'u': torch.tensor(1.0)}, ValueError, 'u: expected 3 or 4 axes, got a scalar'),
        ({'A': torch.tensor(-1.0)}, ValueError, r'A: expected 3 axes, the first of 1 or K, got \(\)'),
        ({'A': -torch.ones(5, 3)}, ValueError, r'A: expected 3 axes, the first of 1 or K, got \(5, 3\)'),
        ({'dt_weight': torch.tensor(1.0)}, ValueError, r'dt_weight: expected 3 axes'),
        ({'D': torch.tensor(1.0)}, ValueError, r'D: expected'),
        ({'z': torch.tensor(1.0)}, ValueError, r'z: expected'),
        ({'walks': None}, TypeError, 'walks: expected walks of mmvim.ops.walks, .* got NoneType'),
        ({'walks': 'cross'}, TypeError, 'walks: expected walks of mmvim.ops.walks, .* got str'),
        ({'walks': (2, 3, (0,), None)}, TypeError, 'walks: expected walks of mmvim.ops.walks, .* got tuple'),
        ({'scale': 'half'}, TypeError, "scale: expected a number, got 'half'"),
        ({'scale': None}, TypeError, 'scale: expected a number, got None'),
        ({'out_dtype': 'float32'}, TypeError, "out_dtype: expected None or one of float32, .*, got 'float32'"),
        ({'out_dtype': torch.int32}, TypeError, 'out_dtype: expected None or one of float32, .*, got torch.int32'),
        ({'walks': walks.Walks(-2, -3, (0, 2))}, ValueError, 'walks: expected a grid .*, got -2 x -3'),
        ({'walks': walks.Walks(1, 6, (0, 4))}, ValueError, 'walks: kinds are 0 to 3 .*, got 4'),
        ({'walks': walks.Walks(1, 6, (-1, 0))}, ValueError, 'walks: kinds are 0 to 3 .*, got -1'),
        ({'walks': walks.Walks(1, 6)}, ValueError, 'walks: expected at least one kind of walk, or a table'),
        ({'walks': walks.Walks('1', 6, (0, 2))}, TypeError, "walks: height and width must be integers, got '1' and 6"),
        ({'walks': walks.Walks(1, 6, table=[[0, 1]])}, TypeError, 'walks: a table must be an int32 tensor'),
        ({'walks': walks.Walks(1, 6, table=torch.zeros(2, 6))}, TypeError, 'walks: a table must be an int32 tensor'),
        ({'walks': walks.Walks(1, 6, (0, 2), torch.zeros(2, 6).int())}, ValueError, 'expected kinds or a table'),
    ],
)  # fmt: skip
def test_values_of_another_kind(change, error, message):
    case = scan_case(WALK, dtype=torch.float32)
    with pytest.raises(error, match=message) as caught:
        scan(**{**case, **change})
    assert '\n' not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    case = scan_case(WALK, dtype=torch.float32)
    assert torch.equal(scan(**{**case, 'scale': np.float32(0.5)}), scan(**{**case, 'scale': 0.5}))


@pytest.mark.parametrize('value', NOT_A_TENSOR, ids=lambda value: type(value).__name__)
def test_convolutions_of_what_is_no_tensor(value):
    x, weight = torch.zeros(2, 6, 5), torch.zeros(2, 5, 4)
    with pytest.raises(TypeError, match=f'^x: {TENSOR}'):
        walk_conv(value, weight, walks=WALK)
    with pytest.raises(TypeError, match=f'^weight: {TENSOR}'):
        walk_conv(x, value, walks=WALK)
    with pytest.raises(TypeError, match=f'^x: {TENSOR}'):
        causal_conv1d_fn(value, weight[0])
    with pytest.raises(TypeError, match=f'^A: {TENSOR}'):
        selective_scan_fn(x, x, value, x, x)


def test_many_taps():
    x, weight = torch.zeros(2, 6, 5), torch.zeros(2, 5, 1000)
    if 'cpu' in BACKENDS:
        with pytest.raises(
            RuntimeError, match="^weight: the compiled kernels take 1 to 32 taps, got 1000; use .*'torch'$"
        ):
            walk_conv(x, weight, walks=WALK)
    if 'torch' in BACKENDS:
        assert walk_conv(x, weight, walks=WALK, backend='torch').shape == (2, 2, 6, 5)


# Walks by hand, and the operators themselves --------------------------------------------------------------------------

OUTSIDE = {'beyond': [[0, 1, 2, 3, 4, 6]], 'far': [[0, 2**31 - 1]], 'before': [[0, -2]], 'far before': [[-(2**31)]]}


def raw(case, table, kinds=(), height=1, width=6, suffix=''):
    tensors = [case[name] for name in TENSORS]
    flags = table, kinds, height, width, True, False, False, True, 1.0, torch.float32, False
    return getattr(torch.ops.mmvim, f'scan{suffix}')(*tensors, *flags)


@pytest.fixture
def one_walk():
    return scan_case(walks.rows(6), dtype=torch.float32)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', OUTSIDE)
def test_tables_by_hand_that_leave_the_grid(name, backend, one_walk):
    by_hand = walks.Walks(1, 6, table=torch.tensor(OUTSIDE[name], dtype=torch.int32))
    with pytest.raises(ValueError, match='walks leave the grid: 1 x 6 tokens are numbered 0 to 5'):
        scan(**{**one_walk, 'walks': by_hand}, backend=backend)
    with pytest.raises(ValueError, match='walks leave the grid'):
        walk_conv(torch.zeros(2, 6, 5), torch.zeros(1, 5, 4), walks=by_hand, backend=backend)


def test_tables_by_hand_that_visit_twice(one_walk):
    with pytest.raises(ValueError, match='walk 0 visits token 3 more than once'):
        scan(**{**one_walk, 'walks': walks.Walks(1, 6, table=torch.tensor([[3, 3]], dtype=torch.int32))})


@pytest.mark.parametrize('suffix', ['', '_torch'])
@pytest.mark.parametrize('name', OUTSIDE)
def test_operators_refuse_tables_that_leave_the_grid(name, suffix, one_walk):
    table = torch.tensor(OUTSIDE[name], dtype=torch.int32)
    with pytest.raises((ValueError, RuntimeError), match='walks leave the grid'):
        raw(one_walk, table, suffix=suffix)
    conv = getattr(torch.ops.mmvim, f'walk_conv{suffix}')
    with pytest.raises((ValueError, RuntimeError), match='walks leave the grid'):
        conv(torch.zeros(2, 6, 5), torch.zeros(1, 5, 4), None, table, (), 1, 6, True, False)
    grad, empty = torch.zeros(2, 6, 5), torch.empty(0)
    tensors = [one_walk[name] for name in TENSORS]
    with pytest.raises((ValueError, RuntimeError), match='walks leave the grid'):
        getattr(torch.ops.mmvim, f'scan_backward{suffix}')(
            grad, *tensors, table, empty, (), 1, 6, True, False, False, True, 1.0
        )


@pytest.mark.parametrize('suffix', ['', '_torch'])
@pytest.mark.parametrize(
    ('kinds', 'height', 'width', 'message'),
    [
        ((4,), 1, 6, 'kinds (of walks )?are 0 to 3'),
        ((-1,), 1, 6, 'kinds (of walks )?are 0 to 3'),
        ((0,), -1, -6, 'grid'),
    ],
)
def test_operators_refuse_kinds_and_grids(kinds, height, width, message, suffix, one_walk):
    with pytest.raises((ValueError, RuntimeError), match=message):
        raw(one_walk, None, kinds, height, width, suffix)


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_table_is_checked_again_after_a_change_in_place(backend, one_walk):
    walk = walks.from_table([[0, 1, 2]], 1, 6)
    case = {**one_walk, 'walks': walk}
    scan(**case, backend=backend)
    walk.table[0, 0] = 6
    with pytest.raises(ValueError, match='walks leave the grid'):
        scan(**case, backend=backend)
    walk.table[0, 0] = 5
    want = scan(**{**case, 'walks': walks.from_table([[5, 1, 2]], 1, 6)}, backend=backend)
    assert torch.equal(scan(**case, backend=backend), want)
    with torch.inference_mode():  # where changes are not counted
        table = torch.tensor([[0, 1]], dtype=torch.int32)
        case['walks'] = walks.Walks(1, 6, table=table)
        scan(**case, backend=backend)
        table[0, 0] = 7
        with pytest.raises(ValueError, match='walks leave the grid'):
            scan(**case, backend=backend)


@pytest.mark.parametrize('backend', BACKENDS)
def test_compiled_graphs_refuse_tables_that_leave_the_grid(backend, one_walk):
    walk = walks.from_table([[0, 1, 2]], 1, 6)
    rest = {name: x for name, x in one_walk.items() if name not in ('u', 'walks')}
    compiled = torch.compile(
        lambda u: scan(u, **rest, walks=walk, backend=backend), fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(compiled(one_walk['u']), scan(**{**one_walk, 'walks': walk}, backend=backend))
    walk.table[0, 0] = 6
    with pytest.raises((ValueError, RuntimeError), match='walks leave the grid'):
        compiled(one_walk['u'])


@pytest.mark.parametrize('backend', BACKENDS)
def test_an_empty_batch(backend):
    """No error: empty results, and gradients of parameters that are 0."""
    case = scan_case(WALK, batch=0, z=True, rank=2, dtype=torch.float32)
    got = results(scan, case, backend=backend)
    assert got['y'].shape == (0, 6, 5)
    assert got['du'].shape == case['u'].shape and got['dA'].shape == case['A'].shape and not got['dA'].any()
    x, weight = torch.randn(0, 6, 5, requires_grad=True), torch.randn(2, 5, 3, requires_grad=True)
    y = walk_conv(x, weight, walks=WALK, backend=backend)
    y.sum().backward()
    assert y.shape == (0, 2, 6, 5) and x.grad.shape == x.shape and not weight.grad.any()
    u, B = torch.randn(0, 4, 6), torch.randn(0, 3, 6)
    assert selective_scan_fn(u, u, -torch.rand(4, 3), B, B, z=u).shape == u.shape
    assert selective_scan_fn(u, u, -torch.rand(4, 3), torch.randn(4, 3), B).shape == u.shape
    assert causal_conv1d_fn(u, torch.randn(4, 3)).shape == u.shape
