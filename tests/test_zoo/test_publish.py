"""``tools/publish_model.py``: what it writes is small, named after itself, and the same model however it is loaded."""

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from mmvim.checkpoints import load_backbone, load_model, read
from mmvim.commands import run_tool
from mmvim.inference.inferencer import build_inferencer
from mmvim.models.build import build_untrained
from mmvim.zoo.publish import publish
from tools.publish_model import main

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""
_base_ = '{ROOT}/configs/demo/upernet_vim_t_miniature.py'
arch = dict(_delete_=True, embed_dims=16, depth=4, patch_size=16, patch_stride=16)
model = dict(
    backbone=dict(arch=arch, out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
    auxiliary_head=dict(in_channels=16),
)
"""
IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IMAGE)


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A folder with a config and a checkpoint as a run writes it, and its model."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'mine.py').write_text(CONFIG)
    cfg = Config.fromfile(folder / 'mine.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    optimizer = torch.optim.AdamW(model.parameters())
    model.eval()(IMAGE).sum().backward()
    optimizer.step()
    checkpoint = {
        'state_dict': model.state_dict(),
        'optimizer': optimizer.state_dict(),
        'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0], [1])}},
        'meta': {'epoch': 0, 'iter': 200, 'cfg': 'x = 1', 'dataset_meta': {'classes': ['thing'] * 12, 'reduce': True}},
    }
    torch.save(checkpoint, folder / 'iter_200.pth')
    return folder, model


def test_all_ways_of_loading_give_the_same_model(run: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, model = run
    before = (folder / 'iter_200.pth').read_bytes()
    weights, safetensors, entry = publish(folder / 'iter_200.pth', tmp_path / 'out', folder / 'mine.py')
    assert (folder / 'iter_200.pth').read_bytes() == before
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {weights.name, safetensors.name, entry.name}
    for path in (weights, safetensors):
        assert path.stem == f'mine-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}'
        assert path.stat().st_size < len(before) / 2.5
    assert entry.stem == weights.stem
    content = torch.load(weights, weights_only=True)
    assert set(content) == {'state_dict', 'meta'} and set(content['meta']) == {'dataset_meta'}

    want, cfg = outputs(model), Config.fromfile(folder / 'mine.py')
    for path in (weights, safetensors):
        fresh = build_untrained(cfg.model, 'mmseg')
        load_model(fresh, read(path), str(path))
        assert torch.equal(outputs(fresh), want)
        backbone = build_untrained(cfg.model, 'mmseg').backbone
        load_backbone(backbone, path)
        assert torch.equal(outputs(backbone)[-1], outputs(model.backbone)[-1])
        inferencer = build_inferencer(Config.fromfile(folder / 'mine.py'), str(path), 'cpu')
        assert torch.equal(outputs(inferencer.model), want)
        assert list(inferencer.model.dataset_meta['classes']) == ['thing'] * 12
    theirs = build_untrained(cfg.model, 'mmseg')
    load_checkpoint(theirs, str(weights), strict=True, logger='silent')
    assert torch.equal(outputs(theirs), want)

    (said,) = yaml.safe_load(entry.read_text())['Models']
    assert said == {
        'Name': 'mine',
        'In Collection': 'Vim',
        'Config': str(folder / 'mine.py'),
        'Metadata': {
            'Training Data': 'ADE20KDataset',
            'Parameters (M)': round(sum(weight.numel() for weight in model.parameters()) / 1e6, 2),
            'Iterations': 200,
        },
        'Weights': weights.name,
    }


def test_without_config_under_a_name(run: tuple[Path, nn.Module], tmp_path: Path, monkeypatch, capsys) -> None:
    source = run[0] / 'iter_200.pth'
    monkeypatch.setattr(sys, 'argv', ['publish_model.py', str(source), str(tmp_path / 'upernet_mine.pth')])
    run_tool(main)
    printed = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.suffix for path in printed] == ['.pth', '.safetensors', '.yml']
    assert all(path.name.startswith('upernet_mine-') and path.is_file() for path in printed)
    content = {path: path.read_bytes() for path in printed}
    with pytest.raises(SystemExit, match=r'error: .*upernet_mine-\w{8}\.pth exists: move it away'):
        run_tool(main)  # the same content has the same hash
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_bad_input(run: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """One sentence each, and nothing is left behind."""
    folder, out = run[0], tmp_path / 'out'
    cv2.imwrite(str(tmp_path / 'image.jpg'), np.zeros((8, 8), np.uint8))
    torch.save({'meta': {}}, tmp_path / 'empty.pth')
    (tmp_path / 'file').write_text(json.dumps({}))
    other = ROOT / 'configs/demo/mask_rcnn_vmamba_miniature.py'
    for arguments, sentence in {
        (tmp_path / 'image.jpg', out): 'is no checkpoint, it is a JPEG image',
        (tmp_path / 'nothing.pth', out): 'nothing.pth',
        (tmp_path / 'empty.pth', out): 'no weights among meta',
        (folder / 'iter_200.pth', tmp_path / 'file'): 'cannot be written to',
        (folder / 'iter_200.pth', out, folder / 'nothing.py'): 'There is no config',
        (folder / 'iter_200.pth', out, other): 'does not fit .*holds Vim, the model is VMamba',
    }.items():
        with pytest.raises(SystemExit, match=f'^error: .*{sentence}') as end:
            run_tool(lambda arguments=arguments: publish(*arguments))
        assert '\n' not in str(end.value)
        assert not out.exists() or not list(out.iterdir())
