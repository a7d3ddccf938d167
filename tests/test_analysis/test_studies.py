"""The studies: what is planned, what is kept, what each initialisation does, and the commands on tiny models."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from rich.console import Console
from torch import nn

import tools.analysis.resolution
import tools.analysis.robustness
from mmvim.analysis import resolution, robustness
from mmvim.analysis.small_segmentor import Budget, ensure_images
from mmvim.analysis.study import Study, carry_out, spread
from mmvim.commands import run_tool

pytestmark = pytest.mark.usefixtures('own_packages')
TINY = Budget(2, batch=2, crop=32, train=4, val=2, side=32)


def test_plan_goes_seed_by_seed() -> None:
    runs = robustness.plan(['mamba', 'he'], ['silu', 'relu'], 2)
    assert len(runs) == len({run.name for run in runs}) == 8
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4
    assert {(run.init, run.activation) for run in runs[:4]} == {
        (init, act) for init in ('mamba', 'he') for act in ('silu', 'relu')
    }


@pytest.mark.parametrize(
    ('call', 'sentence'),
    [
        (lambda: robustness.plan(['zeros'], ['silu'], 1), "unknown initialisation 'zeros'; nearest: zero; there are"),
        (lambda: robustness.plan(['zero'], ['gelo'], 1), "unknown activation 'gelo'; nearest: gelu.*; there are"),
        (lambda: resolution.plan(['vmanba'], 1), "unknown model 'vmanba'; nearest: VMamba; there are Vim,"),
    ],
)
def test_unknown_names(call: Callable[[], list], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def _built(init: str, activation: str = 'silu') -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(robustness.backbone(init, activation))
    model.init_weights()
    return model


def _scans(model: nn.Module, name: str) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for key, value in model.named_parameters() if key.endswith(name)])


def test_initialisations_of_scans() -> None:
    zero, random, mamba = map(_built, ('zero', 'random', 'mamba'))
    assert (_scans(zero, 'A_logs') == 0).all()
    for name in ('dt_projs_weight', 'dt_projs_bias'):
        assert 0 <= _scans(zero, name).min() < _scans(zero, name).max() <= 0.1
        assert _scans(random, name).std() == pytest.approx(0.1, rel=0.1)
    assert _scans(random, 'A_logs').std() == pytest.approx(1, rel=0.1)
    steps = nn.functional.softplus(_scans(mamba, 'dt_projs_bias'))
    assert 0.9e-3 < steps.min() < 2e-3 < 0.05 < steps.max() < 0.11


@pytest.mark.parametrize(
    ('init', 'variance'),
    [('xavier', lambda weight: 2 / sum(weight.shape)), ('he', lambda weight: 2 / weight.shape[1])],
)
def test_initialisations_of_linear_layers(init: str, variance: Callable[[torch.Tensor], float]) -> None:
    """Glorot's and He's spreads; scans as Mamba's, and everything else as without."""
    model, plain = _built(init), _built('mamba')
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    assert len(linear) == 5 * 4  # of every block: two projections of SS2D, two layers of the MLP
    for layer in linear.values():
        assert layer.weight.std().item() == pytest.approx(variance(layer.weight) ** 0.5, rel=0.1)
        assert layer.bias is None or not layer.bias.any()
    bounds = [layer.weight.abs().max() / variance(layer.weight) ** 0.5 for layer in linear.values()]
    assert (max(bounds) <= 3**0.5 + 1e-5) == (init == 'xavier')  # uniform, the other normal
    for layer in plain.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for name, value in plain.named_parameters():
        if name.rpartition('.')[0] not in linear:
            assert torch.equal(value, model.get_parameter(name)), name


def test_activation_is_that_of_the_scan() -> None:
    image = torch.rand(1, 3, 32, 32)
    outputs = [_built('mamba', act)(image)[-1] for act in robustness.ACTIVATIONS]
    assert not any(torch.allclose(outputs[a], outputs[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_study_keeps_what_is_finished_and_goes_on(tmp_path: Path) -> None:
    """A run is what ``dict`` makes of its arguments: another process finds that without the imports of this file."""
    jobs = {'one': ([('mIoU', 1)],), 'bad': (3,), 'three': ([('mIoU', 3)],)}
    study = Study(tmp_path / 'study', {'iterations': 5})
    (tmp_path / 'study/runs/three.json').write_text('{"mIoU": "as it was"}')
    (tmp_path / 'study/runs/one.json').write_text('{"mIo')  # damaged: done again
    with Console(file=(tmp_path / 'said').open('w')) as console:
        results, code = carry_out(study, jobs, dict, 2, str, console)
        assert (results, code) == ([{'mIoU': 1}, {'mIoU': 'as it was'}], 1)
        del jobs['bad']
        assert carry_out(Study(tmp_path / 'study', {'iterations': 5}), jobs, dict, 2, str, console) == (results, 0)
        console.file.flush()
    said = (tmp_path / 'said').read_text()
    assert '1 of 3 runs are in' in said and 'bad failed: TypeError: ' in said
    assert sorted(path.name for path in (tmp_path / 'study/runs').iterdir()) == ['one.json', 'three.json']


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    def stop(result: dict) -> str:
        raise KeyboardInterrupt

    jobs = {'one': ([('mIoU', 1)],), 'two': ([('mIoU', 2)],), 'three': ([('mIoU', 3)],)}
    with Console(file=(tmp_path / 'said').open('w')) as console:
        assert carry_out(Study(tmp_path, {}), jobs, dict, 1, stop, console) == ([{'mIoU': 1}], 130)
    assert [path.name for path in (tmp_path / 'runs').iterdir()] == ['one.json']


def test_budgets_are_not_mixed(tmp_path: Path) -> None:
    Study(tmp_path, {'iterations': 5, 'batch': 2})
    with pytest.raises(FileExistsError, match='holds runs with iterations=5, asked for were such with iterations=6;'):
        Study(tmp_path, {'iterations': 6, 'batch': 2})


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match=r'file/out cannot be written \(.*\): name another folder with --out'):
        Study(tmp_path / 'file/out', {})


def test_other_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('')
    with pytest.raises(FileExistsError, match='holds something else than 4 and 2 drawn images .* with --data'):
        ensure_images(tmp_path, 4, 2, 32)


def test_spread() -> None:
    assert spread([1.0, 2.0, 3.0]) == '2.0 ± 1.0'
    assert spread([1.25]) == '1.2'


def _call(monkeypatch: pytest.MonkeyPatch, tool: object, *arguments: str) -> int | str:
    monkeypatch.setattr(tool, 'Budget', lambda iterations, **_: Budget(**{**asdict(TINY), 'iterations': iterations}))
    monkeypatch.setattr(sys, 'argv', [tool.__name__, *arguments, '--workers', '1'])
    with pytest.raises(SystemExit) as stop:
        run_tool(tool.main)
    return stop.value.code


def test_robustness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One run here, the other by the command, which goes on from it."""
    run, data, out = robustness.Run('zero', 'relu', 0), tmp_path / 'data', tmp_path / 'out'
    ensure_images(data, TINY.train, TINY.val, TINY.side)
    result = robustness.train(run, TINY, data)
    assert len(result['loss']) == 2 and 0 <= result['mIoU'] <= 100
    assert np.sum(result['after']) == pytest.approx(1, abs=0.01) and result['after'] != result['before']
    study = Study(out, {**asdict(TINY), 'arch': robustness.ARCH})
    (out / f'runs/{run.name}.json').write_text(json.dumps(result))
    options = ('--inits', 'zero', 'he', '--activations', 'relu', '--seeds', '1', '--data', str(data), '--out', str(out))

    assert _call(monkeypatch, tools.analysis.robustness, *options, '--iterations', '2') == 0
    said = capsys.readouterr().out
    assert '1 of 2 runs are in' in said and '[2/2] he-relu-0: mIoU' in said
    rows = json.loads((out / 'robustness.json').read_text())['rows']
    assert [(row['init'], row['seed'], len(row['loss'])) for row in rows] == [('zero', 0, 2), ('he', 0, 2)]
    assert rows[0]['mIoU'] == result['mIoU'] and set(study.finished([run.name])) == {run.name}
    assert f'| zero | {result["mIoU"]:.1f} |\n' in (out / 'robustness.md').read_text()
    assert (out / 'robustness.png').stat().st_size > 20_000

    assert 'iterations=2, asked for' in _call(monkeypatch, tools.analysis.robustness, *options, '--iterations', '3')


def test_resolution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A position embedding made for 2 x 2 patches, at 3 x 3 too."""
    data, out = tmp_path / 'data', tmp_path / 'out'
    options = ('--models', 'deit', '--sizes', '48', '32', '--seeds', '1', '--iterations', '2')
    code = _call(monkeypatch, tools.analysis.resolution, *options, '--data', str(data), '--out', str(out))
    assert code == 0
    (result,) = json.loads((out / 'resolution.json').read_text())['rows']
    small, large = result['sizes']
    assert (small['size'], large['size']) == (32, 48)
    assert small['drawn'] == small['enlarged'], 'the same images'
    assert small['ms'] > 0
    assert '| DeiT |' in (out / 'resolution.md').read_text()
    assert (out / 'resolution.png').stat().st_size > 20_000


@pytest.mark.parametrize('name', resolution.NAMES)
def test_models_of_the_study_take_every_size(name: str) -> None:
    parts = resolution.models(64)[name]
    model = MODELS.build({'type': 'mmseg.EncoderDecoder', **_head(parts)}).eval()
    for side in (64, 96):
        assert model(torch.rand(1, 3, side, side)).shape == (1, 12, side // 4, side // 4)


def _head(parts: dict) -> dict:
    head = {'type': 'mmseg.UPerHead', 'in_index': [0, 1, 2, 3], 'channels': 8, 'num_classes': 12}
    return {
        'backbone': parts['backbone'],
        'neck': parts.get('neck'),
        'decode_head': {**head, 'in_channels': parts['in_channels']},
        'test_cfg': {'mode': 'whole'},
    }


@pytest.mark.parametrize('tool', [tools.analysis.robustness, tools.analysis.resolution])
def test_one_iteration_is_too_few(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A learning rate cannot rise and fall in it."""
    monkeypatch.setattr(sys, 'argv', ['study', '--iterations', '1'])
    with pytest.raises(SystemExit):
        tool.main()
    assert '--iterations 2 or more' in capsys.readouterr().err
