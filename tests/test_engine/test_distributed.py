"""Two processes on CPUs do what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmvim.engine import set_up_cpu


@pytest.fixture(scope='module')
def results(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp('ranks')
    script = Path(__file__).with_name('toy_ranks.py')
    tests = script.parents[1]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{tests.parent}{os.pathsep}{tests}'}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-1500:]
    found = {path.stem: torch.load(path) for path in folder.glob('*.pth')}
    found['log'] = done.stdout
    found['checkpoints'] = sorted(path.name for path in folder.glob('run/iter_*.pth'))
    return found


def test_loss_and_every_gradient_equal_those_of_one_process(results):
    single, first, second = (results[name] for name in ('single', 'rank_0', 'rank_1'))
    assert abs(single['loss'] - (first['loss'] + second['loss']) / 2) < 1e-5
    assert abs(first['loss'] - second['loss']) > 1e-3  # they did see different images
    assert first['gradients'].keys() == single['gradients'].keys()
    for name, gradient in single['gradients'].items():
        assert gradient.abs().max() > 0, name
        for other in (first, second):
            assert (other['gradients'][name] - gradient).abs().max() <= 1e-5 * max(1, gradient.abs().max()), name


def test_both_train_on_and_agree(results):
    first, second = (results[name]['weights'] for name in ('rank_0', 'rank_1'))
    trained = [name for name in first if 'running' not in name]  # each has its own statistics, with BN for SyncBN
    assert all(torch.equal(first[name], second[name]) for name in trained)
    assert results['checkpoints'] == ['iter_2.pth']
    assert results['log'].count('SyncBN is replaced by BN in 2 places of the config: there is no GPU') >= 1


def config() -> Config:
    return Config({
        'model': {
            'norm_cfg': {'type': 'SyncBN'},
            'head': [{'norm_cfg': {'type': 'SyncBN', 'requires_grad': True}}, {'norm_cfg': {'type': 'LN'}}],
        },
        'optim_wrapper': {'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic', 'dtype': 'float16'},
        'find_unused_parameters': True,
    })  # fmt: skip


def test_one_process_on_a_cpu_needs_no_change_but_bf16(monkeypatch):
    monkeypatch.setattr('mmvim.engine.cpu.get_device', lambda: 'cpu')
    monkeypatch.setattr('mmvim.engine.amp.get_device', lambda: 'cpu')
    cfg, before = config(), config()
    set_up_cpu(cfg)
    assert cfg.optim_wrapper == {'type': 'mmvim.CpuAmpOptimWrapper'}
    assert cfg.model == before.model
    set_up_cpu(Config({'model': {}}))  # a config for testing has no optimizer


def test_several_processes_on_a_cpu(monkeypatch):
    monkeypatch.setattr('mmvim.engine.cpu.get_device', lambda: 'cpu')
    monkeypatch.delenv('RANK', raising=False)
    cfg = config()
    set_up_cpu(cfg, 'pytorch')
    assert cfg.model.norm_cfg.type == 'BN'
    assert cfg.model.head == [{'norm_cfg': {'type': 'BN', 'requires_grad': True}}, {'norm_cfg': {'type': 'LN'}}]
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is True


def test_nothing_is_changed_on_a_gpu(monkeypatch):
    monkeypatch.setattr('mmvim.engine.cpu.get_device', lambda: 'cuda')
    cfg = config()
    set_up_cpu(cfg, 'pytorch')
    assert cfg.pretty_text == config().pretty_text
