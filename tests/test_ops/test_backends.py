"""Which implementation is there, which one a call takes, and what is said about it."""

import pytest
import torch

from mmvim.ops import backends
from mmvim.ops.__main__ import lines


@pytest.fixture
def no_kernels(monkeypatch):
    monkeypatch.delenv('MMVIM_BACKEND', raising=False)
    monkeypatch.setattr(backends, 'KERNELS', frozenset())
    monkeypatch.setattr(backends, 'LOAD_FAILURE', 'not compiled')


def test_report_without_kernels(no_kernels):
    rows = {row.name: row for row in backends.report()}
    assert list(rows) == ['cpu', 'cuda', 'torch']
    assert [row.available for row in rows.values()] == [False, False, True]
    assert (rows['cpu'].reason, rows['cpu'].remedy) == ('not compiled', backends.REBUILD)
    assert backends.REBUILD.startswith('python kernels' if backends.IN_CHECKOUT else 'MMVIM_BUILD=cpu pip install')
    text = '\n'.join(lines())
    assert f'cpu tensors, scans: plain PyTorch, {torch.get_num_threads()} threads, the slow path (not compiled)' in text
    assert 'cuda tensors, scans: plain PyTorch, the slow path' in text
    assert f'backend cpu: not available, not compiled\n    type: {backends.REBUILD}' in text
    assert 'backend torch: plain PyTorch' in text
    assert text.count('type:') == 1


def test_report_with_kernels(no_kernels, monkeypatch):
    monkeypatch.setattr(backends, 'KERNELS', frozenset({'cuda'}))
    assert backends.describe('cuda') == 'scans: compiled CUDA kernels'
    assert backends.resolve('auto', torch.device('cuda')) == backends.resolve('cuda', torch.device('cuda')) == ''
    assert 'backend cuda: compiled CUDA kernels' in lines()


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_asking_for_a_backend_that_is_absent(no_kernels, device):
    with pytest.raises(RuntimeError, match=f"backend '{device}' is not available: .*"):
        backends.resolve(device, torch.device(device))


def test_environment(no_kernels, monkeypatch):
    monkeypatch.setenv('MMVIM_BACKEND', 'torch')
    assert backends.resolve('auto', torch.device('cpu')) == '_torch'
    assert backends.describe('cpu').endswith('(MMVIM_BACKEND=torch)')
    monkeypatch.setenv('MMVIM_BACKEND', 'cpu')
    assert any(line.startswith("cpu tensors, scans: none (backend 'cpu' is not available") for line in lines())
    monkeypatch.setenv('MMVIM_BACKEND', 'triton')
    assert any("none (backend 'triton': expected one of auto, cuda, cpu, torch)" in line for line in lines())
    with pytest.raises(ValueError, match="backend 'triton'"):
        backends.resolve('auto', torch.device('cpu'))


def test_a_library_that_does_not_load(tmp_path, monkeypatch):
    (tmp_path / '_C.abi3.so').write_bytes(b'not a library')
    monkeypatch.setattr(backends, 'PACKAGE', tmp_path)
    assert backends._load().startswith('_C.abi3.so does not load: ')
    (tmp_path / '_C.abi3.so').unlink()
    assert backends._load().startswith('not compiled')
