"""Going on with a run under another config: the schedule is taken over, other differences are told or refused."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.utils import register_all_modules
from test_engine.toy_run import config

from mmvim.engine.going_on import former_config
from mmvim.engine.runner import Runner

LENGTH = 4


@pytest.fixture(autouse=True, scope='module')
def registered():
    register_all_modules(init_default_scope=False)


def toy(work_dir: Path, length: int = LENGTH, by_epoch: bool = False, **others) -> Config:
    """A run of a few iterations (or epochs of three) without validation."""
    cfg = config(str(work_dir), length=length, by_epoch=by_epoch, **others)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.custom_hooks = []
    cfg.default_hooks.checkpoint = {'type': 'mmvim.SafeCheckpointHook', 'by_epoch': by_epoch, 'interval': LENGTH}
    end = length * (3 if by_epoch else 1)
    cfg.param_scheduler = [
        {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': 2},
        {'type': 'PolyLR', 'eta_min': 0.0, 'by_epoch': False, 'begin': 2, 'end': end},
    ]
    cfg.experiment_name = f'{work_dir.name}_{length}_{torch.randint(2**40, ()).item()}'
    return cfg


def go(cfg: Config, checkpoint: Path | None = None) -> tuple[list[float], str]:
    """Train, or go on; returns the rates at the end and what the log warned of."""
    if checkpoint is not None:
        cfg.resume, cfg.load_from = True, str(checkpoint)
    runner = Runner.from_cfg(cfg)
    warned = []
    runner.logger.addFilter(lambda record: warned.append(record.getMessage()) or True if record.levelno >= 30 else True)
    runner.train()
    rates = [group['lr'] for group in runner.optim_wrapper.param_groups]
    return rates, '\n'.join(line for line in warned if line.startswith('resuming'))


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('finished')
    go(toy(folder))
    return folder / f'iter_{LENGTH}.pth'


def states(path: Path) -> list[dict]:
    return torch.load(path, weights_only=False)['param_schedulers']


def test_the_same_schedule_is_left_alone(finished, tmp_path):
    _, warned = go(toy(tmp_path), finished)
    assert 'schedule is not' not in warned
    assert f'come to its end already ({LENGTH} of {LENGTH})' in warned and 'train_cfg.max_iters' in warned


def test_a_longer_schedule_is_taken_over(finished, tmp_path):
    assert torch.load(finished, weights_only=False)['optimizer']['param_groups'][0]['lr'] == 0.0
    longer = toy(tmp_path / 'longer', 2 * LENGTH)
    longer.default_hooks.checkpoint.interval = 1
    longer.train_cfg.max_iters = LENGTH + 1
    rates, warned = go(longer, finished)
    assert f'param_scheduler.1.end was {LENGTH} and is {2 * LENGTH}' in warned

    whole = toy(tmp_path / 'whole', 2 * LENGTH)
    whole.train_cfg.max_iters = LENGTH + 1
    expected, _ = go(whole)
    assert rates == expected and min(rates) > 0  # to the bit what it had been without the interruption
    path = tmp_path / f'longer/iter_{LENGTH + 1}.pth'
    assert [state['last_step'] for state in states(path)] == [1, LENGTH - 1]


def test_epochs(tmp_path):
    def cfg(name: str, epochs: int, until: int) -> Config:
        made = toy(tmp_path / name, epochs, by_epoch=True)
        made.param_scheduler[1] = {'type': 'CosineAnnealingLR', 'by_epoch': True, 'begin': 1, 'end': epochs}
        made.default_hooks.checkpoint.interval = 1
        made.train_cfg.max_epochs = until
        return made

    go(cfg('short', 2, 2))
    rates, warned = go(cfg('longer', 6, 3), tmp_path / 'short/epoch_2.pth')
    assert 'param_scheduler.1.end was 2 and is 6' in warned
    expected, _ = go(cfg('whole', 6, 3))
    assert rates == expected and min(rates) > 0


def test_another_rate_is_taken_over(finished, tmp_path):
    other = toy(tmp_path, LENGTH)
    other.optim_wrapper.optimizer.lr = 2e-2
    assert 'the highest rate was 0.01 and is 0.02' in go(other, finished)[1]


def test_another_optimizer_is_refused(finished, tmp_path):
    other = toy(tmp_path, 2 * LENGTH)
    other.optim_wrapper.optimizer = {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}
    with pytest.raises(
        ValueError, match=rf'another optimizer \(AdamW; here SGD\).*load_from={re.escape(str(finished))}'
    ):
        go(other, finished)


def test_other_groups_are_refused(finished, tmp_path):
    other = toy(tmp_path, 2 * LENGTH)
    other.optim_wrapper.paramwise_cfg = {'norm_decay_mult': 0.0}
    with pytest.raises(ValueError, match='1 groups of .* and here .*paramwise_cfg'):
        go(other, finished)


def test_other_data_and_batches_are_told(finished, tmp_path, monkeypatch):
    other = toy(tmp_path, LENGTH)
    other.train_dataloader.batch_size = 3
    other.train_dataloader.dataset.indices = 3
    monkeypatch.setattr('mmvim.engine.going_on.get_world_size', lambda: 2)
    _, warned = go(other, finished)
    assert 'train_dataloader.batch_size was 2 and is 3' in warned
    assert 'train_dataloader.dataset.indices was None and is 3' in warned
    assert 'the number of processes was 1 and is 2' in warned


def test_a_config_in_a_checkpoint_is_not_run(tmp_path):
    marker = tmp_path / 'marker'
    text = f'a = open({str(marker)!r}, "w")\nb = dict(c=[1, (2, -3.5)], d=None)\nimport os\n'
    assert former_config({'meta': {'cfg': text}})['b'] == {'c': [1, [2, -3.5]], 'd': None}
    assert not marker.exists()
    for broken in ('a = (', '(' * 100000, 'a = \0', None):
        assert former_config({'meta': {'cfg': broken}}) == {}


def test_nor_by_mmengine(finished, tmp_path):
    marker = tmp_path / 'marker'
    checkpoint = torch.load(finished, weights_only=False)
    checkpoint['meta']['config'] = f'a = open({str(marker)!r}, "w")'
    torch.save(checkpoint, tmp_path / 'planted.pth')
    go(toy(tmp_path), tmp_path / 'planted.pth')
    assert not marker.exists()
