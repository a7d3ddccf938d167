"""How much a trained segmentation model has learned: against itself untrained, and against single pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmengine.structures import BaseDataElement

from mmvim.analysis.pixel_baseline import PixelClassifier
from mmvim.engine.runner import Runner

from .learned import compare_with_untrained


def report(config: str | Path, checkpoint: str | Path, out: str | Path, pictures: int = 4) -> tuple[dict, list[Path]]:
    """Measure mIoU on the test images of a segmentation config, by the metric that the config names.

    Three times: of the model with fresh weights, of a :class:`PixelClassifier` fitted to the training images, and of
    the model with the weights of ``checkpoint``. Arguments as in :func:`.learned.compare_with_untrained`.

    Returns:
        The three values in percent, ``{'untrained': ..., 'per_pixel': ..., 'trained': ...}``, and all files written.
    """
    return compare_with_untrained(
        config, checkpoint, out, _miou, draw_predictions, pictures, lambda cfg: {'per_pixel': per_pixel_miou(cfg)}
    )


def _miou(runner: Runner) -> float:
    return float(runner.test()['mIoU'])


def per_pixel_miou(cfg: Config) -> float:
    """mIoU in percent of a classifier on colour and position, by the metric that the config names for its tests."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        metric = METRICS.build(deepcopy(cfg.test_evaluator))
        train, test = (_raw_dataset(cfg[f'{stage}_dataloader'].dataset) for stage in ('train', 'test'))
    metric.dataset_meta = test.metainfo
    model = PixelClassifier(len(test.metainfo['classes'])).fit(_images_and_labels(train))
    for image, labels in _images_and_labels(test):
        sample = {'pred_sem_seg': model.predict(image), 'gt_sem_seg': labels}
        metric.process({}, [{key: {'data': torch.from_numpy(value)} for key, value in sample.items()}])
    return float(metric.evaluate(len(test))['mIoU'])


def _raw_dataset(cfg: dict):
    """A data set that gives whole images and labels as they are on disk."""
    return DATASETS.build({**deepcopy(cfg), 'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]})


def _images_and_labels(dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index in range(len(dataset)):
        sample = dataset[index]
        yield sample['img'], sample['gt_seg_map'].astype(np.int64)


def draw_predictions(predictions: Iterator[BaseDataElement], runner: Runner, out: Path) -> list[Path]:
    """Draw test images into ``out``, each with truth and prediction beside it and a legend; the paths."""
    metainfo = runner.test_dataloader.dataset.metainfo
    colours = dict(zip(metainfo['classes'], metainfo['palette'], strict=True))
    paths = []
    for result in predictions:
        maps = {
            'truth': result.gt_sem_seg.data.squeeze().cpu().numpy(),
            'prediction': result.pred_sem_seg.data.squeeze().cpu().numpy(),
        }
        figure = compare(mmcv.imread(result.img_path, channel_order='rgb'), maps, colours)
        paths.append(out / f'{Path(result.img_path).stem}.png')
        figure.savefig(paths[-1])
    return paths


def compare(
    image: np.ndarray, maps: dict[str, np.ndarray], colours: dict[str, tuple[int, int, int]], height: float = 4.0
) -> Figure:
    """Draw an image and label maps side by side.

    Args:
        image: (H, W, 3) uint8, RGB.
        maps: title -> (H, W) indices into ``colours``; other values are left white.
        colours: class name -> RGB. Only classes that a map holds are in the legend.
        height: height of a panel in inches.
    """
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(colours)] = list(colours.values())
    panels = {'image': image, **{title: table[labels] for title, labels in maps.items()}}
    width = len(panels) * height * image.shape[1] / image.shape[0]
    figure = Figure(figsize=(width, height + 0.8), layout='constrained')
    for axis, (title, panel) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axis.imshow(panel, interpolation='nearest')
        axis.set_title(title)
        axis.set_axis_off()
    present = set(np.unique(list(maps.values())))
    patches = [
        Patch(color=np.divide(colour, 255), label=name.strip())
        for index, (name, colour) in enumerate(colours.items())
        if index in present
    ]
    if any((labels >= len(colours)).any() for labels in maps.values()):
        patches.append(Patch(facecolor='white', edgecolor='grey', label='no label'))
    rows = math.ceil(len(patches) / 9)
    figure.legend(handles=patches, loc='outside lower center', ncols=math.ceil(len(patches) / rows), frameon=False)
    return figure
