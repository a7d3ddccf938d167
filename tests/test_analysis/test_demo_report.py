"""The report of the demo measures what it says."""

import json
import runpy
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmvim.analysis.demo_report import compare, per_pixel_miou
from mmvim.analysis.pixel_baseline import PixelClassifier
from mmvim.miniature.data_sets import ensure_miniature

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def demo(tmp_path_factory) -> tuple[Path, Config]:
    """A folder with small data, the demo's config cut short, and weights for it."""
    folder = tmp_path_factory.mktemp('demo')
    ensure_miniature('ade20k', folder / 'data', train=8, val=3, size=(64, 80), progress=False)
    cfg = Config.fromfile(REPOSITORY / 'configs/demo/upernet_vim_t_miniature.py')
    cfg.model.backbone.update(
        arch={'embed_dims': 192, 'depth': 4, 'patch_size': 16, 'patch_stride': 16}, out_indices=(0, 1, 2, 3)
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder / 'data/ADEChallengeData2016')
    cfg.dump(folder / 'short.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    # A model that calls everything sky, whatever its other weights are.
    torch.nn.init.zeros_(model.decode_head.conv_seg.weight)
    model.decode_head.conv_seg.bias.data = torch.eye(12)[cfg.classes.index('sky')]
    torch.save({'state_dict': model.state_dict()}, folder / 'sky.pth')
    return folder, cfg


def truths(folder: Path) -> list[np.ndarray]:
    paths = sorted((folder / 'data/ADEChallengeData2016/annotations/validation').glob('*.png'))
    return [mmcv.imread(path, flag='unchanged') for path in paths]


def test_command_line(demo, monkeypatch, capsys):
    folder, _ = demo
    monkeypatch.setattr(sys, 'argv', ['demo_report.py', str(folder / 'short.py'), str(folder / 'sky.pth')])
    runpy.run_path(str(REPOSITORY / 'tools/demo_report.py'), run_name='__main__')
    printed = capsys.readouterr().out

    miou = json.loads((folder / 'report/report.json').read_text())
    assert set(miou) == {'untrained', 'per_pixel', 'trained'}
    # mIoU of "all is sky" by hand: the share of sky, over the classes that are on these pictures.
    labels = np.stack(truths(folder))
    present = len(np.unique(labels[labels > 0]))
    assert miou['trained'] == pytest.approx(100 * (labels[labels > 0] == 3).mean() / present, abs=0.01)
    assert miou['untrained'] != miou['trained']

    assert f'{miou["trained"]:.2f}' in printed and f'{miou["per_pixel"]:.2f}' in printed
    pictures = sorted((folder / 'report').glob('*.png'))
    assert [path.stem for path in pictures] == [f'ADE_val_{index:08d}' for index in (1, 2, 3)]
    assert all(str(path) in printed for path in pictures)
    assert mmcv.imread(pictures[0]).std() > 20


def test_per_pixel_miou_is_that_of_the_classifier(demo):
    folder, cfg = demo
    names = dict(zip((2, 3, 5, 7, 10, 13, 17, 21, 22, 77, 91, 127), range(12), strict=True))
    table = np.full(256, 255)
    table[list(names)] = list(names.values())
    root = folder / 'data/ADEChallengeData2016'

    def samples(split: str):
        for path in sorted((root / 'images' / split).iterdir()):
            labels = mmcv.imread(root / 'annotations' / split / f'{path.stem}.png', flag='unchanged')
            yield mmcv.imread(path), table[labels]

    model = PixelClassifier(12).fit(samples('training'))
    pairs = [(model.predict(image), labels) for image, labels in samples('validation')]
    predicted, known = (np.concatenate([pair[index].ravel() for pair in pairs]) for index in (0, 1))
    predicted, known = predicted[known != 255], known[known != 255]
    ious = [
        ((predicted == index) & (known == index)).sum() / ((predicted == index) | (known == index)).sum()
        for index in range(12)
        if ((predicted == index) | (known == index)).any()
    ]
    assert per_pixel_miou(cfg) == pytest.approx(100 * np.mean(ious), abs=0.01)


def test_compare_names_the_classes_that_are_seen():
    colours = {'sky': (0, 0, 255), 'road': (90, 90, 90), 'dog': (255, 0, 0)}
    maps = {'truth': np.array([[0, 0], [2, 255]]), 'prediction': np.zeros((2, 2), dtype=int)}
    figure = compare(np.zeros((2, 2, 3), dtype=np.uint8), maps, colours)
    assert [axis.get_title() for axis in figure.axes] == ['image', 'truth', 'prediction']
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['sky', 'dog', 'no label']
    shown = figure.axes[1].get_images()[0].get_array()
    assert shown.tolist() == [[[0, 0, 255], [0, 0, 255]], [[255, 0, 0], [255, 255, 255]]]
