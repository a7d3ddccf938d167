"""Which implementation is there, which one a call takes, and what is said about it."""

import pytest
import torch

from mmvim.ops import backends, trust
from mmvim.ops.__main__ import lines
from mmvim.ops.backends import Implementation


@pytest.fixture
def no_kernels(monkeypatch):
    monkeypatch.delenv('MMVIM_BACKEND', raising=False)
    monkeypatch.setattr(backends, 'KERNELS', frozenset())
    monkeypatch.setattr(backends, 'LOAD_FAILURE', {'cpu': 'not compiled', 'cuda': 'not compiled'})
    monkeypatch.setattr(torch.version, 'cuda', None)


def test_report_without_kernels(no_kernels):
    rows = {row.name: row for row in backends.report()}
    assert list(rows) == ['cpu', 'cuda', 'mamba_ssm', 'torch']
    assert [row.available for row in rows.values()] == [False, False, False, True]
    not_compiled = 'not compiled (no C++ compiler at installation, or torch < 2.10)'
    assert (rows['cpu'].reason, rows['cpu'].remedy) == (not_compiled, backends.REBUILD)
    assert rows['cuda'].reason == f'torch {torch.__version__} is not built for CUDA'
    assert backends.REBUILD.startswith('python kernels' if backends.IN_CHECKOUT else 'MMVIM_BUILD=cpu pip install')
    text = '\n'.join(lines())
    assert (
        f'cpu tensors, scans: plain PyTorch, {torch.get_num_threads()} threads, the slow path ({not_compiled})' in text
    )
    assert 'cuda tensors, scans: plain PyTorch, the slow path' in text
    assert f'backend cpu: not available, {not_compiled}\n    type: {backends.REBUILD}' in text
    assert 'backend torch: plain PyTorch' in text
    assert text.count('type:') == 1


@pytest.fixture
def cuda(no_kernels, monkeypatch):
    """torch is built for CUDA, and the CUDA kernels are there; no GPU is."""
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(backends, 'KERNELS', frozenset({'cuda'}))
    monkeypatch.setattr(backends, 'CUDA_ARCHITECTURES', 'sm_80, sm_90a, compute_80 (PTX)')


def cards(monkeypatch, *capabilities):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda index: capabilities[index])
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: f'card {index}')
    monkeypatch.setattr(trust, 'verdict', lambda kernels, device: trust.Verdict('', 'kept'))


def test_report_with_kernels(cuda, monkeypatch):
    built = 'compiled CUDA kernels for sm_80, sm_90a, compute_80 (PTX)'
    for name in ('auto', 'cuda'):
        assert backends.resolve(name, torch.device('cuda')) is Implementation.DISPATCHED
    assert f'backend cuda: {built}; no GPU is visible' in lines()
    cards(monkeypatch, (8, 6), (9, 0))
    right = f'{built}; their self-test found them right'
    assert f'backend cuda: {right}' in lines()
    assert backends.describe('cuda') == f'scans: {right}'


def test_card_whose_architecture_is_not_built(cuda, monkeypatch):
    cards(monkeypatch, (8, 0), (7, 5))
    missing = 'not compiled for card 1 (compute capability 7.5), only for sm_80, sm_90a, compute_80 (PTX)'
    remedy = f'TORCH_CUDA_ARCH_LIST=7.5 {backends.REBUILD_CUDA}'
    row = next(row for row in backends.report() if row.name == 'cuda')
    assert row == ('cuda', 'cuda', False, missing, remedy)
    assert backends.describe('cuda') == f'scans: {missing}; type: {remedy}'


@pytest.mark.parametrize(
    ('architectures', 'capability', 'covered'),
    [
        ('sm_80', (8, 0), True),
        ('sm_80', (8, 9), True),
        ('sm_86', (8, 0), False),
        ('sm_80', (9, 0), False),
        ('sm_100, sm_120', (12, 0), True),
        ('sm_90a', (9, 0), True),
        ('sm_100a', (10, 3), False),
        ('sm_75, compute_75 (PTX)', (12, 1), True),
        ('compute_90a (PTX)', (10, 0), False),
        ('compute_90 (PTX)', (8, 9), False),
    ],
)
def test_what_machine_code_and_ptx_run_on(architectures, capability, covered):
    assert backends._covers(architectures, capability) == covered


def test_why_there_are_no_cuda_kernels(cuda, monkeypatch):
    monkeypatch.setattr(backends, 'KERNELS', frozenset())
    monkeypatch.delenv('CUDA_PATH', raising=False)
    monkeypatch.setenv('CUDA_HOME', '/nowhere')
    monkeypatch.setattr(backends.shutil, 'which', lambda name: None)
    row = backends._report_cuda()
    assert row.reason == 'not compiled; no nvcc is found, which is part of the toolkit of CUDA 13.0'
    assert row.remedy == f'CUDA_HOME=/where/the/toolkit/is {backends.REBUILD_CUDA}'
    monkeypatch.setattr(backends.shutil, 'which', lambda name: f'/usr/bin/{name}')
    assert backends._report_cuda()[2:] == (False, 'not compiled', backends.REBUILD_CUDA)
    assert 'MMVIM_BUILD=cuda' in backends.REBUILD_CUDA
    monkeypatch.setitem(backends.LOAD_FAILURE, 'cuda', '_C_cuda.abi3.so does not load: no such symbol')
    assert backends._report_cuda()[2:] == (
        False,
        '_C_cuda.abi3.so does not load: no such symbol',
        backends.REBUILD_CUDA,
    )
    assert '(_C_cuda.abi3.so does not load: no such symbol); faster: MMVIM_BUILD=cuda' in backends.describe('cuda')


def test_float64_has_no_kernels_on_a_gpu(cuda):
    assert backends.resolve('auto', torch.device('cuda'), wide=True) is Implementation.TORCH
    assert backends.resolve('auto', torch.device('cpu'), wide=True) is Implementation.DISPATCHED
    message = "'cuda' takes float32, bfloat16 and float16, got float64; use backend='auto' or 'torch'"
    with pytest.raises(RuntimeError, match=message):
        backends.resolve('cuda', torch.device('cuda'), wide=True)


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_asking_for_a_backend_that_is_absent(no_kernels, device):
    with pytest.raises(RuntimeError, match=f"backend '{device}' is not available: .*"):
        backends.resolve(device, torch.device(device))


def test_environment(no_kernels, monkeypatch):
    monkeypatch.setenv('MMVIM_BACKEND', 'torch')
    assert backends.resolve('auto', torch.device('cpu')) is Implementation.TORCH
    assert backends.describe('cpu').endswith('(MMVIM_BACKEND=torch)')
    monkeypatch.setenv('MMVIM_BACKEND', 'cpu')
    assert any(line.startswith("cpu tensors, scans: none (backend 'cpu' is not available") for line in lines())
    monkeypatch.setenv('MMVIM_BACKEND', 'triton')
    assert any("none (backend 'triton': expected one of auto, cpu, cuda, mamba_ssm, torch)" in line for line in lines())
    with pytest.raises(ValueError, match="backend 'triton'"):
        backends.resolve('auto', torch.device('cpu'))


def test_a_library_that_does_not_load(tmp_path, monkeypatch):
    (tmp_path / '_C.abi3.so').write_bytes(b'not a library')
    monkeypatch.setattr(backends, 'PACKAGE', tmp_path)
    assert backends._load('_C').startswith('_C.abi3.so does not load: ')
    (tmp_path / '_C.abi3.so').unlink()
    assert backends._load('_C') == 'not compiled'
