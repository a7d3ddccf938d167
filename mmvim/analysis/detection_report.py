"""How much a trained detector has learned, against itself untrained, in numbers and pictures."""

from __future__ import annotations

import json
import math
import os
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import mmcv
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmvim.engine.runner import Runner
from mmvim.files import write_whole

READABLE = 384  # shortest side in pixels of a picture with labels in it
METRICS = {'box': 'coco/bbox_mAP_50', 'mask': 'coco/segm_mAP_50'}


def report(
    config: str | Path, checkpoint: str | Path, out: str | Path, pictures: int = 4
) -> tuple[dict[str, dict[str, float]], list[Path]]:
    """Measure the AP at an overlap of 0.5 on the test images of an instance segmentation config.

    Twice: of the model with fresh weights, and with the weights of ``checkpoint``.

    Args:
        config: config file of a detector with masks that is evaluated by ``CocoMetric``.
        checkpoint: weights of that model.
        out: folder for ``report.json`` and the pictures.
        pictures: number of test images to draw, truth at the left and prediction at the right.

    Returns:
        ``{'untrained': {'box': ..., 'mask': ...}, 'trained': {...}}``, and all files written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(config)
    # pycocotools prints its progress.
    with TemporaryDirectory() as logs, open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere):
        cfg.merge_from_dict({'work_dir': logs, 'log_level': 'ERROR', 'load_from': None, 'resume': False})
        runner = Runner.from_cfg(cfg)
        found = {'untrained': _precision(runner)}
        runner.load_checkpoint(str(checkpoint))
        found['trained'] = _precision(runner)
    files = draw_predictions(runner, out, pictures)
    summary = out / 'report.json'
    write_whole(summary, json.dumps(found, indent=2) + '\n')
    return found, [summary, *files]


def _precision(runner: Runner) -> dict[str, float]:
    # Without a single detection the metric has no entry.
    results = runner.test()
    return {name: max(float(results.get(key, 0.0)), 0.0) for name, key in METRICS.items()}


def draw_predictions(runner: Runner, out: Path, count: int, threshold: float = 0.5) -> list[Path]:
    """Draw the first test images with the boxes and masks of truth and prediction into ``out``; the paths."""
    dataset = runner.test_dataloader.dataset
    runner.visualizer.dataset_meta = dataset.metainfo
    runner.model.eval()
    paths = []
    for index in range(min(count, len(dataset))):
        sample = dataset[index]
        with torch.no_grad():
            (result,) = runner.model.test_step({'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]})
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
