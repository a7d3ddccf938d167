"""How much a trained detector has learned, against itself untrained, in numbers and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import mmcv
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmvim.engine.runner import Runner

from .learned import compare_with_untrained

READABLE = 384  # shortest side in pixels of a picture with labels in it
METRICS = {'box': 'coco/bbox_mAP_50', 'mask': 'coco/segm_mAP_50'}


def report(
    config: str | Path, checkpoint: str | Path, out: str | Path, pictures: int = 4
) -> tuple[dict[str, dict[str, float]], list[Path]]:
    """Measure the AP at an overlap of 0.5 on the test images of a detector with masks that ``CocoMetric`` evaluates.

    Twice: of the model with fresh weights, and with the weights of ``checkpoint``. In the pictures truth is at the left
    and prediction at the right. Arguments as in :func:`.learned.compare_with_untrained`.

    Returns:
        ``{'untrained': {'box': ..., 'mask': ...}, 'trained': {...}}``, and all files written.
    """
    return compare_with_untrained(config, checkpoint, out, _precision, draw_predictions, pictures)


def _precision(runner: Runner) -> dict[str, float]:
    # Without a single detection the metric has no entry.
    results = runner.test()
    return {name: max(float(results.get(key, 0.0)), 0.0) for name, key in METRICS.items()}


def draw_predictions(
    predictions: Iterator[BaseDataElement], runner: Runner, out: Path, threshold: float = 0.5
) -> list[Path]:
    """Draw test images with the boxes and masks of truth and prediction into ``out``; the paths."""
    runner.visualizer.dataset_meta = runner.test_dataloader.dataset.metainfo
    paths = []
    for result in predictions:
        path = out / f'{Path(result.img_path).stem}.png'
        image = mmcv.imread(result.img_path, channel_order='rgb')
        factor = math.ceil(READABLE / min(image.shape[:2]))
        image = mmcv.imrescale(image, float(factor))
        for instances in (result.gt_instances, result.pred_instances):
            _enlarge(instances, factor)
        runner.visualizer.add_datasample(path.stem, image, result, pred_score_thr=threshold, out_file=str(path))
        paths.append(path)
    return paths


def _enlarge(instances: InstanceData, factor: int) -> None:
    """Fit boxes and masks to an image that is ``factor`` times as large."""
    # mmdet keeps the truth in classes of its own.
    instances.bboxes = getattr(instances.bboxes, 'tensor', instances.bboxes) * factor
    masks = instances.masks
    if not isinstance(masks, torch.Tensor):
        masks = torch.from_numpy(masks.to_ndarray())
    instances.masks = masks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
