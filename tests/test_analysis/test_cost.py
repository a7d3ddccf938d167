"""What models cost: counts against published ones, measurements against what is known, and what happens at limits."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmvim.analysis import cost, models
from mmvim.analysis.cost import Case
from mmvim.analysis.flops import count_operations
from mmvim.analysis.measure import forbid_more_memory, in_child, peak_memory
from mmvim.commands import run_tool
from tools.analysis.cost import main

ROOT = Path(__file__).parents[2]
# GFLOPs of whole segmentors at 512 x 2048, as the script of VMamba's authors prints them, and their parameters.
SEGMENTORS = {'t': (948.78, 61_902_572), 's': (1028.40, 81_801_260), 'b': (1170.34, 122_069_292)}
# Giga multiply-adds at 224 x 224 as published, to one digit, and what a classifier has behind the backbone.
CLASSIFIERS = {
    **{f'mambaout_{arch}': (count, 4 * dims * (dims + 1000)) for arch, count, dims in (
        ('femto', 1.2, 288), ('kobe', 1.5, 288), ('tiny', 4.5, 576), ('small', 9.0, 576), ('base', 15.8, 768)
    )},
    **{f'efficientvmamba_{arch}': (count, dims * 1000) for arch, count, dims in (
        ('tiny', 0.8, 384), ('small', 1.3, 512), ('base', 4.0, 768)
    )},
    **{f'vmamba_{arch}': (count, dims * 1000) for arch, count, dims in (
        ('tiny', 4.9, 768), ('small', 8.7, 768), ('base', 15.4, 1024), ('v0_tiny', 5.6, 768), ('v0_base', 18.0, 1024)
    )},
}  # fmt: skip


@pytest.mark.parametrize('variant', SEGMENTORS)
def test_operations_and_parameters_of_segmentors(variant: str) -> None:
    cfg = Config.fromfile(ROOT / f'configs/vmamba/upernet_vmamba_{variant}_ade20k.py')
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        found = count_operations(model, torch.rand(1, 3, 512, 2048))
    operations, parameters = SEGMENTORS[variant]
    assert found['total'] / 1e9 == pytest.approx(operations, rel=2e-3)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_operations_of_classifiers(name: str) -> None:
    published, head = CLASSIFIERS[name]
    _, found = cost.count(Case(name, 224))
    assert (found + head) / 1e9 == pytest.approx(published, rel=5e-3, abs=0.05)


def test_scans_are_counted_by_the_formula() -> None:
    """Vim-Ti at 64 x 64: 24 layers, 16 tokens, two walks, 384 channels, 16 states, steps of rank 12."""
    with torch.device('meta'):
        found = count_operations(models.build('vim_tiny', 64), torch.rand(1, 3, 64, 64))
    assert found['scans'] == 24 * 16 * 2 * 384 * (9 * 16 + 1 + 12)
    assert found['total'] == sum(found.values()) - found['total']


def test_both_ways_of_attention_cost_the_same() -> None:
    assert cost.count(Case('deit_tiny', 96)) == cost.count(Case('deit_tiny_naive', 96))


@pytest.mark.parametrize('name', models.NAMED)
def test_every_model_is_built(name: str) -> None:
    with torch.device('meta'):
        maps = models.build(name, 64)(torch.rand(1, 3, 64, 64))
    plain = name.startswith(('vim', 'localvim', 'deit', 'plainmamba'))
    assert maps[-1].shape[-1] == (7 if 'plus' in name else 4 if plain else 2)


def test_names_of_models() -> None:
    assert {'plainmamba_l1', 'efficientvmamba_tiny', 'vim_tiny_plus', 'vmamba_v0_base'} <= set(models.NAMED)
    assert not {'vim_t', 'vim_t+', 'vmamba_b', 'efficientvmamba_t'} & set(models.NAMED)
    assert (
        models.title('plainmamba_l3') == 'PlainMamba-L3' and models.title('efficientvmamba_base') == 'EfficientVMamba-B'
    )


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown model 'vmamba_tinny'; nearest: vmamba_tiny"):
        models.build('vmamba_tinny', 224)


def _in_a_fresh_process() -> tuple[int, cost.Cost, str]:
    held = peak_memory(lambda: torch.ones(100 * 2**18).sum())
    measured = cost.measure(Case('vim_tiny', 64), 0.0)
    forbid_more_memory(2**28)
    try:
        torch.ones(2**28)
    except RuntimeError as error:
        return held, measured, str(error)
    return held, measured, ''


def test_memory_of_a_process() -> None:
    """What is held is counted, and what is not there is refused rather than taken."""
    held, measured, refusal = in_child(_in_a_fresh_process)
    assert held == pytest.approx(100 * 2**20, rel=0.05)
    assert 0 < measured.best <= measured.median < 10
    assert 10**5 < measured.memory < 10**8
    assert 'allocate memory' in refusal


def test_broken_processes_are_told_from_killed_ones() -> None:
    with pytest.raises(MemoryError, match='killed, as it is when memory runs out'):
        in_child(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match='broke down with exit code -11'):
        in_child(signal.raise_signal, signal.SIGSEGV)


def test_time_runs_out() -> None:
    with pytest.raises(TimeoutError, match='not finished within 1 s'):
        in_child(time.sleep, 60, timeout=1)


def test_survey_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that does not fit is not tried at larger sizes, and the rest is measured, written and drawn."""

    def run(measure, case, seconds, timeout):
        assert measure is cost.measure
        if case == Case('deit_tiny_naive', 128):
            raise MemoryError('does not fit')
        assert case != Case('deit_tiny_naive', 256)
        return cost.Cost(1e-3 * case.size, 2e-3 * case.size, 10**6)

    monkeypatch.setattr(cost, 'in_child', run)
    seen = []
    cases = [Case(name, size) for size in (64, 128, 256) for name in ('vim_tiny', 'deit_tiny_naive')]
    rows = cost.survey(cases, 1.0, 60.0, seen.append)
    assert rows == seen
    notes = {(row['model'], row['size']): row.get('note') for row in rows}
    assert notes['deit_tiny_naive', 128] == 'does not fit'
    assert notes['deit_tiny_naive', 256] == 'not tried: 128 x 128: does not fit'
    assert notes['deit_tiny_naive', 64] is notes['vim_tiny', 256] is None
    files = cost.write(rows, {'threads': '1'}, tmp_path)
    assert [file.name for file in files] == ['cost.md', 'cost.json', 'cost.png']
    table = files[0].read_text()
    assert 'per multiply-add' in table
    assert '| Vim-Ti | 64 | 6.9 |' in table
    assert '| 64.0 | 128.0 | 1.0 |' in table
    assert len(json.loads(files[1].read_text())['rows']) == 6
    assert files[2].stat().st_size > 20_000


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Ctrl-C keeps what is finished."""
    costs = iter([cost.Cost(0.001, 0.002, 10**6)])

    def run(*_: object, timeout: float) -> cost.Cost:
        try:
            return next(costs)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(cost, 'in_child', run)
    options = ['--models', 'vim_tiny', '--resolutions', '96', '64', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['cost.py', *options])
    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert stop.value.code == 130
    assert 'stopped after 1 of 2 measurements' in capsys.readouterr().out
    content = json.loads((tmp_path / 'cost.json').read_text())
    assert [(row['size'], row['best']) for row in content['rows']] == [(64, 0.001)]
    assert '--resolutions 96 64' in content['about']['command']
    assert (tmp_path / 'cost.png').exists()


def test_command_refuses_unknown_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['cost.py', '--models', 'vim_tinny'])
    with pytest.raises(SystemExit, match="error: unknown model 'vim_tinny'; nearest: vim_tiny"):
        run_tool(main)
