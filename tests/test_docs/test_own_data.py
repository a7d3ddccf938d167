"""What docs/own_data.md says works: its configs, taken from the page, train on data of three classes."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmvim.commands.train import train
from mmvim.miniature.categories import SCENE_CLASSES
from mmvim.miniature.data_sets import ensure_miniature

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / 'docs/own_data.md').read_text()
BLOCKS = dict(re.findall(r'Save this as `(.*?)`:\n\n```python\n(.*?)```', PAGE, re.DOTALL))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with our configs and those of the page."""
    (tmp_path / 'configs').mkdir()
    for name in ('_base_', 'vim'):
        (tmp_path / 'configs' / name).symlink_to(REPOSITORY / 'configs' / name)
    for name, text in BLOCKS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_masks(root: Path) -> None:
    """A label-map data set: 0 sky, 1 ground, 2 thing, 255 elsewhere."""
    ensure_miniature('ade20k', root / 'drawn', train=4, val=2, size=(64, 64), progress=False)
    table = np.full(256, 255, dtype=np.uint8)
    for name, ids in SCENE_CLASSES.items():
        if ids.ade20k:
            table[ids.ade20k] = 0 if name == 'sky' else 2 if ids.coco else 1
    drawn = root / 'drawn/ADEChallengeData2016'
    for new, old in (('train', 'training'), ('val', 'validation')):
        (root / 'images').mkdir(exist_ok=True)
        (drawn / 'images' / old).rename(root / 'images' / new)
        (root / 'masks' / new).mkdir(parents=True)
        for path in (drawn / 'annotations' / old).iterdir():
            cv2.imwrite(str(root / 'masks' / new / path.name), table[cv2.imread(str(path), cv2.IMREAD_UNCHANGED)])


def write_coco(root: Path) -> None:
    """A COCO data set of persons, cars and dogs with ids of its own."""
    ensure_miniature('coco', root / 'drawn', train=6, val=3, size=(64, 64), progress=False)
    numbers = {1: 10, 3: 20, 18: 30}
    for split in ('train', 'val'):
        (root / 'drawn' / f'{split}2017').rename(root / split)
        contents = json.loads((root / f'drawn/annotations/instances_{split}2017.json').read_text())
        for key, name in (('categories', 'id'), ('annotations', 'category_id')):
            contents[key] = [{**entry, name: numbers[entry[name]]} for entry in contents[key] if entry[name] in numbers]
        (root / f'{split}.json').write_text(json.dumps(contents))


def shorten(config: Path, size: tuple[int, int], taps: int | tuple[int, ...]) -> Config:
    """The config with four blocks in the backbone, small pictures and two training steps."""
    cfg = Config.fromfile(config)
    cfg.model.backbone.update(
        arch={'embed_dims': 192, 'depth': 4, 'patch_size': 16, 'patch_stride': 16}, out_indices=taps, init_cfg=None
    )
    cfg.param_scheduler = []
    cfg.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 2}
    cfg.default_hooks.checkpoint = {'type': 'mmvim.SafeCheckpointHook', 'by_epoch': False, 'interval': 2}
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            step.update({key: size for key in ('scale', 'crop_size') if key in step})
    cfg.train_dataloader.update(batch_size=2, sampler={'type': 'InfiniteSampler', 'shuffle': True})
    return cfg


def run(cfg: Config, name: str) -> str:
    """Train by the tool's own function; returns the log."""
    cfg.dump(f'{name}.py')
    train([f'{name}.py', '--work-dir', name])
    (log,) = Path(name).glob('*/*.log')
    return log.read_text()


def test_the_page_has_both_examples():
    assert set(BLOCKS) == {'configs/mine/masks.py', 'configs/mine/coco.py'}
    assert all(len(text.splitlines()) <= 18 for text in BLOCKS.values())


def test_label_maps_from_a_checkpoint_with_other_classes(place):
    write_masks(place / 'data/mine')
    size = (64, 64)
    other = shorten(place / 'configs/vim/upernet_vim_t_ade20k.py', size, (0, 1, 2, 3))
    with DefaultScope.overwrite_default_scope('mmseg'):
        other.model.data_preprocessor.size = size
        torch.save({'state_dict': MODELS.build(other.model).state_dict()}, 'ade20k.pth')

    cfg = shorten(place / 'configs/mine/masks.py', size, (0, 1, 2, 3))
    cfg.model.data_preprocessor.size = size
    cfg.load_from = 'ade20k.pth'
    log = run(cfg, 'masks')
    (line,) = (line for line in log.splitlines() if '150 classes in the file, 3 in the model' in line)
    for head in ('decode_head', 'auxiliary_head'):
        assert f'{head}.conv_seg' in line
    assert (place / 'masks/iter_2.pth').is_file()
    table = {row.split('|')[1].strip() for row in log.splitlines() if row.startswith('|')}
    assert table == {'Class', 'sky', 'ground', 'thing'}


def test_coco_json(place):
    write_coco(place / 'data/mine')
    cfg = shorten(place / 'configs/mine/coco.py', (64, 64), -1)
    # The cost is in the number of regions.
    cfg.model.train_cfg.rcnn.sampler.num = 32
    cfg.model.train_cfg.rpn_proposal.max_per_img = cfg.model.test_cfg.rpn.max_per_img = 50
    log = run(cfg, 'coco')
    assert 'coco/bbox_mAP' in log and 'coco/segm_mAP' in log
    assert (place / 'coco/iter_2.pth').is_file()


@pytest.mark.parametrize(('reduce', 'expected'), [(False, [0, 1, 2, 255]), (True, [255, 0, 1, 255])])
def test_reduce_zero_label_does_what_the_page_says(tmp_path, reduce, expected):
    from mmseg.datasets import BaseSegDataset

    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.zeros((2, 4, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / 'masks/a.png'), np.array([[0, 1, 2, 255]] * 2, dtype=np.uint8))
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = BaseSegDataset(
            data_root=str(tmp_path),
            data_prefix={'img_path': 'images', 'seg_map_path': 'masks'},
            metainfo={'classes': ('a', 'b', 'c')},
            reduce_zero_label=reduce,
            pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}],
        )
    assert dataset[0]['gt_seg_map'].tolist() == [expected] * 2
