"""backend='mamba_ssm' on stand-ins for mamba-ssm and causal-conv1d that compute with the reference, on a CPU."""

import importlib.machinery
import sys
from types import ModuleType

import pytest
import torch
from test_ops.test_conv import conv_case

from mmvim.ops import backends, causal_conv1d_fn, mamba_backend, scan, selective_scan_fn, walk_conv, walks
from mmvim.ops.reference import scan_reference
from mmvim.ops.testing import TENSORS, assert_same, results, scan_case

WALKS = {
    'bidirectional': walks.bidirectional(11),
    'cross': walks.cross(3, 5),
    'windows': walks.local(3, 5, ('h', 'v_flip', 'w2', 'w7_flip')),
    'strided': walks.strided(3, 5),
}


def demand(*conditions: bool) -> None:
    assert all(conditions), conditions


def checked_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
    """What mamba-ssm's kernels check, and their result."""
    (batch, channels, length), groups, states = u.shape, B.shape[1], A.shape[1]
    demand(delta.shape == u.shape, A.shape == (channels, states), channels % groups == 0, states <= 256)
    demand(B.shape == C.shape == (batch, groups, states, length))
    demand(u.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16))
    demand({delta.dtype, B.dtype, C.dtype} == {u.dtype})
    wide = torch.promote_types(u.dtype, torch.float32)  # the tests' float64 stands for float32
    for parameter in (D, delta_bias):
        demand(parameter is None or (parameter.shape == (channels,) and parameter.dtype == wide))
    demand(A.dtype == wide, A.is_contiguous())
    return selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)


def checked_conv(x, weight, bias=None, seq_idx=None, activation=None):
    """What causal-conv1d's kernels check, and their result."""
    demand(x.stride(2) == 1, 2 <= weight.shape[1] <= 4, weight.shape[0] == x.shape[1], weight.stride(1) == 1)
    demand(bias is None or (bias.dtype == weight.dtype and bias.stride(-1) == 1))
    return causal_conv1d_fn(x, weight, bias, activation=activation)


@pytest.fixture
def packages(monkeypatch):
    """Both packages are there, and take CPU tensors."""

    def stand_in(name: str, **content) -> None:
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    stand_in('selective_scan_cuda')
    stand_in('mamba_ssm')
    stand_in('mamba_ssm.ops')
    stand_in('mamba_ssm.ops.selective_scan_interface', selective_scan_fn=checked_scan)
    stand_in('causal_conv1d_cuda')
    stand_in('causal_conv1d', causal_conv1d_fn=checked_conv)
    monkeypatch.delenv('MMVIM_BACKEND', raising=False)
    monkeypatch.setattr(mamba_backend, 'version', {'mamba-ssm': '2.3.2', 'causal-conv1d': '1.7.0'}.__getitem__)
    resolve = backends.resolve

    def as_if_on_a_gpu(backend, device, operator='scan', wide=False):
        on_gpu = backend == 'mamba_ssm'
        return resolve(backend, torch.device('cuda') if on_gpu else device, operator, wide and not on_gpu)

    monkeypatch.setattr('mmvim.ops.interface.resolve', as_if_on_a_gpu)
    for find in (mamba_backend.find_scan, mamba_backend.find_conv):
        find.cache_clear()
    yield stand_in
    for find in (mamba_backend.find_scan, mamba_backend.find_conv):
        find.cache_clear()


OPTIONS = {
    'plain': {},
    'gate': {'z': True, 'scale': 0.5},
    'shared': {'per_walk': False, 'own_parameters': False, 'rank': 2},
    'apart': {'merge': 'none', 'z': True, 'D': False, 'delta_bias': False},
    'steps': {'u_order': 'step', 'param_order': 'step', 'rank': 2, 'delta_softplus': False},
    'parameters in steps': {'param_order': 'step', 'per_walk': False, 'own_parameters': False},
}


@pytest.mark.parametrize('name', WALKS)
@pytest.mark.parametrize('options', OPTIONS)
def test_scan(options, name, packages):
    case = scan_case(WALKS[name], dtype=torch.float64, **OPTIONS[options])
    got = results(scan, case, backend='mamba_ssm')
    assert_same(got, results(lambda **arguments: scan_reference(**arguments)[0], case), 1e-11)
    y, state = scan(**case, return_last_state=True, backend='mamba_ssm')
    want, want_state = scan_reference(**case)
    assert_same({'y': y, 'state': state}, {'y': want, 'state': want_state}, 1e-11)


def test_bfloat16(packages):
    case = scan_case(WALKS['cross'], channels=16, d_state=8, z=True, rank=3, dtype=torch.bfloat16)
    exact = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    got = results(scan, case, backend='mamba_ssm')
    assert_same(got, results(lambda **arguments: scan_reference(**arguments)[0], exact), 8e-3, gradients=3)
    assert got['y'].dtype == torch.bfloat16
    assert all(got[f'd{name}'].dtype == case[name].dtype for name in TENSORS if case[name] is not None)
    assert scan(**case, out_dtype=torch.float32, backend='mamba_ssm').dtype == torch.float32


@pytest.mark.parametrize('name', WALKS)
@pytest.mark.parametrize('order', ['token', 'step'])
@pytest.mark.parametrize(('activation', 'bias', 'width'), [('silu', True, 4), (None, False, 2)])
def test_walk_conv(activation, bias, width, order, name, packages):
    case = conv_case(WALKS[name], width, bias, activation=activation, order=order, dtype=torch.float64)
    got, want = (results(walk_conv, case, backend=backend) for backend in ('mamba_ssm', 'torch'))
    assert_same(got, want, 1e-12)


def test_taps_that_causal_conv1d_does_not_do(packages):
    with pytest.raises(RuntimeError, match="'mamba_ssm' takes 2 to 4 taps, got 5; use backend='auto'"):
        walk_conv(**conv_case(WALKS['cross'], 5), backend='mamba_ssm')


def row():
    return next(row for row in backends.report() if row.name == 'mamba_ssm')


def test_report(packages, monkeypatch):
    assert row() == ('mamba_ssm', 'cuda', True, 'mamba-ssm 2.3.2 and causal-conv1d 1.7.0', '')
    monkeypatch.setenv('MMVIM_BACKEND', 'mamba_ssm')
    assert backends.describe('cuda') == ('scans: mamba-ssm 2.3.2 and causal-conv1d 1.7.0 (MMVIM_BACKEND=mamba_ssm)')
    with pytest.raises(RuntimeError, match="backend 'mamba_ssm' takes cuda tensors, these are on cpu"):
        backends.resolve('auto', torch.device('cpu'))
    with pytest.raises(RuntimeError, match='got float64'):
        backends.resolve('auto', torch.device('cuda'), wide=True)


def test_package_without_its_compiled_part(packages, monkeypatch):
    """What recent releases install unless they are told to keep it."""
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setitem(sys.modules, 'selective_scan_cuda', None)
    assert not row().available
    assert row().reason == 'mamba-ssm 2.3.2 is installed without its compiled part selective_scan_cuda'
    assert 'MAMBA_KEEP_CUDA_BUILD=TRUE pip install' in row().remedy
    with pytest.raises(RuntimeError, match="backend 'mamba_ssm' is not available: .*MAMBA_KEEP_CUDA_BUILD=TRUE"):
        scan(**scan_case(WALKS['cross']), backend='mamba_ssm')


def test_package_without_convolutions(packages, monkeypatch):
    monkeypatch.setitem(sys.modules, 'causal_conv1d_cuda', None)
    assert row().available
    assert row().reason.startswith(
        'mamba-ssm 2.3.2 for scans; no convolutions, causal-conv1d 1.7.0 is installed without'
    )
    scan(**scan_case(WALKS['cross']), backend='mamba_ssm')
    with pytest.raises(RuntimeError, match='not available: causal-conv1d 1.7.0 is installed without'):
        walk_conv(**conv_case(WALKS['cross']), backend='mamba_ssm')


def test_the_shim_is_not_the_package(packages, monkeypatch):
    from mmvim.shim.finder import Finder

    packages('selective_scan_cuda')
    sys.modules['selective_scan_cuda'].__spec__.loader = Finder()
    assert row().reason == 'mmvim.shim stands in for selective_scan_cuda of mamba-ssm 2.3.2'


def test_package_that_cannot_be_imported(packages, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mamba_ssm.ops.selective_scan_interface', None)
    with pytest.raises(RuntimeError, match='mamba_ssm.ops.selective_scan_interface cannot be imported'):
        scan(**scan_case(WALKS['cross']), backend='mamba_ssm')


def test_nothing_is_installed():
    mamba_backend.find_scan.cache_clear()
    assert row() == ('mamba_ssm', 'cuda', False, 'mamba-ssm is not installed', '')
