"""The configs for VSPW: what they say, and two iterations with a validation on moving scenes."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS, init_default_scope
from rich.console import Console

from mmvim.commands import check_data as command
from mmvim.commands.test import test as evaluate
from mmvim.commands.train import train
from mmvim.miniature.data_sets import ensure_miniature

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {path.stem: path for path in sorted(ROOT.glob('configs/video/*.py'))}


def test_every_backbone_has_its_config() -> None:
    assert set(CONFIGS) == {f'upernet_{backbone}_vspw' for backbone in ('vmamba_t', 'vmamba_s', 'vim_s')}


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name: str) -> None:
    cfg = Config.fromfile(CONFIGS[name])
    variant = name.removeprefix('upernet_').removesuffix('_vspw')
    known = Config.fromfile(ROOT / f'configs/{variant[:-2]}/upernet_{variant}_ade20k.py').model.backbone
    assert cfg.model.backbone == known
    cfg.model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    with torch.device('meta'), torch.no_grad():
        model = MODELS.build(cfg.model).eval()
        logits = model.encode_decode(torch.zeros(1, 3, 64, 96), [{'img_shape': (64, 96)}])
    assert logits.shape == (1, 124, 64, 96)


def test_it_trains_and_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    ensure_miniature('vspw', 'data/VSPW_480p', train=4, val=20, size=(32, 48), progress=False)
    cfg = Config.fromfile(CONFIGS['upernet_vmamba_t_vspw'])
    cfg.model.backbone.update(arch={'embed_dims': 16, 'depths': (1, 1, 1, 1)}, init_cfg=None)
    cfg.model.decode_head.update(in_channels=[16, 32, 64, 128], channels=16)
    cfg.model.auxiliary_head.update(in_channels=64, channels=16)
    cfg.model.data_preprocessor.size = (32, 32)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.param_scheduler = []
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            step.update({key: (32, 32) for key in ('scale', 'crop_size') if key in step})
    cfg.dump('vspw.py')
    monkeypatch.setattr(command, 'Console', lambda **options: Console(width=200, **options))
    command.check_data(['vspw.py', '--stage', 'train', 'val'])
    said = capsys.readouterr().out
    assert 'error' not in said and 'warning' not in said, said
    train(['vspw.py', '--work-dir', 'run'])
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert re.search(r'Iter\(val\) .*mIoU: \d.*mVC8: \d.*mVC16: \d', log.read_text())
    evaluate(['vspw.py', 'run/iter_2.pth', '--work-dir', 'measured', '--out', 'maps'])
    (log,) = (tmp_path / 'measured').glob('*/*.log')
    assert re.search(r'Iter\(test\) .*mIoU: \d.*mVC8: \d.*mVC16: \d', log.read_text())
    frames = [str(path.relative_to('maps')) for path in sorted(Path('maps').glob('*/*'))]
    assert frames == [f'2_scene/{frame:08d}.png' for frame in range(20)]
    labels = cv2.imread('maps/2_scene/00000003.png', cv2.IMREAD_UNCHANGED)
    assert labels.shape == (32, 48) and labels.min() >= 1


def test_own_classes_as_the_page_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / 'docs/fields/video.md').read_text()
    (tmp_path / 'configs/mine').mkdir(parents=True)
    for name in ('_base_', 'video'):
        (tmp_path / 'configs' / name).symlink_to(ROOT / 'configs' / name)
    text = re.search(r'`configs/mine/video.py`:\n\n```python\n(.*?)```', page, re.DOTALL).group(1)
    (tmp_path / 'configs/mine/video.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    for video, frames in (('a', 9), ('b', 2)):
        for kind, ending in (('images', 'jpg'), ('masks', 'png')):
            folder = Path(f'data/mine/{kind}/val/{video}/frames')
            folder.mkdir(parents=True)
            for frame in range(frames):
                cv2.imwrite(str(folder / f'{frame:08d}.{ending}'), np.full((32, 48), frame % 2, np.uint8))
    cfg = Config.fromfile('configs/mine/video.py')
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(dataset) == 11
    metric = METRICS.build(cfg.val_evaluator[1])
    for entry in dataset:
        sample = entry['data_samples']
        sample.set_data({'pred_sem_seg': sample.gt_sem_seg})
        metric.process({}, [sample.to_dict()])
    assert sorted({Path(video).name for video, *_ in metric.results}) == ['a', 'b']
