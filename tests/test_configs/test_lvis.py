"""The configs for LVIS v1: what they say, and two iterations with a validation on drawn scenes in its format."""

import json
import re
from pathlib import Path

import mmdet
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import METRICS
from rich.console import Console

import mmvim.datasets.lvis as metric
from mmvim.commands import check_data as command
from mmvim.commands.train import train
from mmvim.errors import UserModuleNotFoundError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.miniature.lvis import LVIS_NUMBERS
from mmvim.preflight.data.places import inner_datasets

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {path.stem: path for path in sorted(ROOT.glob('configs/lvis/*.py'))}


def test_every_backbone_has_its_config() -> None:
    assert set(CONFIGS) == {f'mask_rcnn_{backbone}_lvis' for backbone in ('vmamba_t', 'vmamba_s', 'vim_s')}


@pytest.mark.parametrize('name', CONFIGS)
def test_settings_are_those_of_mmdet(name: str) -> None:
    ours = Config.fromfile(CONFIGS[name])
    theirs = Config.fromfile(
        Path(mmdet.__file__).parent / '.mim/configs/lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
    )
    for head in ('bbox_head', 'mask_head'):
        assert ours.model.roi_head[head].num_classes == theirs.model.roi_head[head].num_classes == 1203
    for key in ('score_thr', 'max_per_img'):
        assert ours.model.test_cfg.rcnn[key] == theirs.model.test_cfg.rcnn[key]
    assert ours.train_dataloader.dataset.oversample_thr == theirs.train_dataloader.dataset.oversample_thr == 1e-3
    for stage in ('train', 'val', 'test'):
        mine, known = (next(inner_datasets(cfg[f'{stage}_dataloader'].dataset)) for cfg in (ours, theirs))
        for key in ('type', 'data_root', 'ann_file', 'data_prefix'):
            assert mine[key] == known[key]
        assert [step.type for step in mine.pipeline] == [step.type for step in known.pipeline]
    variant = name.removesuffix('_lvis')
    family = variant.split('_')[2]
    known = Config.fromfile(ROOT / f'configs/{family}/{variant}_coco.py')
    assert ours.model.backbone == known.model.backbone and ours.optim_wrapper == known.optim_wrapper


def test_the_miniature_has_the_format(tmp_path: Path) -> None:
    from mmdet.datasets import LVISV1Dataset

    names = LVISV1Dataset.METAINFO['classes']
    assert all(names[number - 1].startswith(name) for name, number in LVIS_NUMBERS.items())
    ensure_miniature('lvis', tmp_path / 'lvis_v1', train=12, val=2, size=(64, 64), progress=False)
    contents = json.loads((tmp_path / 'lvis_v1/annotations/lvis_v1_train.json').read_text())
    assert [category['id'] for category in contents['categories']] == list(range(1, 1204))
    for image in contents['images']:
        there = {each['category_id'] for each in contents['annotations'] if each['image_id'] == image['id']}
        assert there.isdisjoint(image['neg_category_ids'])
        assert there | {*image['neg_category_ids']} == {*LVIS_NUMBERS.values()}
        address = image['coco_url'].removeprefix('http://images.cocodataset.org/')
        assert 'file_name' not in image and (tmp_path / 'lvis_v1' / address).is_file()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, 'find_spec', lambda name: None)
    with pytest.raises(UserModuleNotFoundError, match=r"pip install 'mmvim\[lvis\]'"):
        METRICS.build({'type': 'mmvim.LVISMetric', 'ann_file': 'nowhere.json'})


def test_it_trains_and_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    ensure_miniature('lvis', 'data/lvis_v1', train=4, val=2, size=(64, 64), progress=False)
    cfg = Config.fromfile(CONFIGS['mask_rcnn_vmamba_t_lvis'])
    cfg.model.backbone.update(arch={'embed_dims': 16, 'depths': (1, 1, 1, 1)}, init_cfg=None)
    cfg.model.neck.in_channels = [16, 32, 64, 128]
    cfg.model.data_preprocessor.pad_size_divisor = 32
    cfg.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 2}
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    cfg.param_scheduler = []
    # Masks of 1203 classes are large.
    cfg.model.train_cfg.rcnn.sampler.num = 8
    cfg.model.test_cfg.rcnn.max_per_img = 5
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        dataset = next(inner_datasets(loader.dataset))
        for step in dataset.pipeline:
            step.update({key: value for key, value in {'scale': (64, 64), 'scales': [(64, 64)]}.items() if key in step})
    cfg.dump('lvis.py')
    monkeypatch.setattr(command, 'Console', lambda **options: Console(width=200, **options))
    command.check_data(['lvis.py', '--stage', 'train', 'val'])
    said = capsys.readouterr().out
    assert 'error' not in said and 'warning' not in said, said
    train(['lvis.py', '--work-dir', 'run'])
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert re.search(r'\(val\).*lvis/bbox_AP: \S+.*lvis/segm_AP: \S+', log.read_text())
    assert not hasattr(np, 'float')
