"""The check of every model finds what it is for."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from rich.console import Console
from test_zoo.small import make_models
from torch import nn

from mmvim.catalogue import MODELS, Model, find
from mmvim.checkpoints import Report
from mmvim.models import Vim, VMamba
from mmvim.zoo import check as module
from mmvim.zoo.check import check


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    folder = tmp_path_factory.mktemp('models')
    return make_models(folder, folder / 'weights')


def run(models: list[Model]) -> tuple[int, str]:
    console = Console(file=StringIO(), width=1000)
    return check(models, MODELS, console), console.file.getvalue()


def test_small_models_of_every_task(models: list[Model]) -> None:
    faults, said = run(models)
    assert faults == 0, said
    assert said.count('tensors of official layout loaded, runs') == 4
    assert '4 passed, 0 left out, 0 failed' in said
    assert DefaultScope.get_current_instance() is None


def test_one_of_the_zoo_and_the_file_it_starts_from() -> None:
    faults, said = run([find(MODELS, 'upernet_vim_t_ade20k'), find(MODELS, 'upernet_vim_s_ade20k_official')])
    assert faults == 0, said
    second, first, _ = said.splitlines()
    assert 'starts from its ImageNet file, 336 tensors of official layout loaded, runs' in first
    assert 'starts from' not in second


def test_models_that_share_a_config_are_checked_once(models: list[Model]) -> None:
    faults, said = run([models[0], replace(models[0], name='other')])
    assert faults == 0
    assert '1 passed' in said and models[0].name in said


def test_faults(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    vim, vmamba, seg, _ = models
    wrong_count = replace(vim, parameters=7)
    other_start = replace(seg, start='vim_t_midclstok_76p1acc.pth', name='other')
    no_config = replace(vmamba, config=f'{vmamba.config}.bak', name='lost')
    faults, said = run([wrong_count, no_config, seg])
    assert faults == 2
    assert 'starts from None, the record says vim_t_midclstok_76p1acc.pth' in run([other_start])[1]
    assert f'{vim.parameters:,} parameters were built, the record says 7' in said
    assert '[2/3] lost: FAILED: FileNotFoundError' in said
    assert f'1 passed, 0 left out, 2 failed: {vim.name}, lost' in said


def test_a_tensor_that_does_not_arrive(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    load = module.load_model

    def forgetful(model: nn.Module, *arguments: object) -> object:
        report = load(model, *arguments)
        model.head.fc.bias.data.fill_(0.5)
        return report

    monkeypatch.setattr(module, 'load_model', forgetful)
    faults, said = run(models[1:2])
    assert faults == 1
    assert "1 tensors are not what stands in the file, such as ['classifier.head.bias']" in said


def test_loading_that_does_nothing(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'load_model', lambda *_: Report('a.pth', 'model', 96, 96))
    faults, said = run(models[1:2])
    assert faults == 1
    assert '96 tensors are not what stands in the file' in said


def test_a_start_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vim, 'init_weights', lambda self: None)
    faults, said = run([find(MODELS, 'upernet_vim_t_ade20k')])
    assert faults == 1
    assert 'vim_t_midclstok_76p1acc.pth left 243 tensors of the backbone as they were' in said


def test_a_model_that_gives_nothing_finite(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    forward = VMamba.forward
    monkeypatch.setattr(VMamba, 'forward', lambda self, x: tuple(out / 0 for out in forward(self, x)))
    faults, said = run(models[1:3])
    assert faults == 2
    assert said.count('of the prediction is empty or not finite') == 2


def test_spoiled_values_show() -> None:
    layer = nn.BatchNorm1d(2)
    module.spoil(layer)
    assert torch.isnan(layer.weight).all() and layer.num_batches_tracked == -1


def test_official_names(models: list[Model], tmp_path: Path) -> None:
    """Files of detectors keep the prefix, those of classifiers have none."""
    for model, key in ((models[0], 'layers.0.mixer.A_b_log'), (models[3], 'backbone.patch_embed.5.weight')):
        file = Path(model.config).parent / 'weights' / model.weights.name
        content = torch.load(file)
        assert key in (content.get('model') or content['state_dict'])
