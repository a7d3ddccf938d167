"""Test sets of segmentation that have no labels."""

import os
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmvim.errors import UserValueError

from .places import as_list, inner_datasets


def test_without_labels(cfg: Config, out: str | None) -> bool:
    """Have a segmentor's test set without labels be predicted on, and not measured.

    Args:
        cfg: Config of the run, changed in place: labels are not loaded, metrics only write predictions.
        out: Folder for predictions, if there is to be one.

    Returns:
        Whether the test set has no labels.

    Raises:
        ValueError: If it has none and no predictions are to be kept.
    """
    if cfg.get('default_scope') != 'mmseg' or not cfg.get('test_dataloader'):
        return False
    bare = [entry for entry in inner_datasets(cfg.test_dataloader.dataset) if _is_bare(entry, out)]
    if not bare:
        return False
    if out is None:
        names = ' and '.join(str(evaluator.get('type')) for evaluator in as_list(cfg.get('test_evaluator')))
        raise UserValueError(
            f'the test set has no labels, so {names or "no metric"} has nothing to compare predictions with: '
            'keep them by --out FOLDER, or name the labels (seg_map_path in data_prefix of test_dataloader.dataset, '
            'LoadAnnotations in its pipeline).'
        )
    for entry in bare:
        if entry.get('data_prefix'):
            entry.data_prefix.pop('seg_map_path', None)
    for entry in inner_datasets(cfg.test_dataloader.dataset):
        entry.pipeline = _without_annotations(entry.get('pipeline') or [])
    if cfg.get('tta_pipeline'):
        cfg.tta_pipeline = _without_annotations(cfg.tta_pipeline)
    cfg.test_evaluator = writers(cfg)
    for evaluator in cfg.test_evaluator:
        evaluator.format_only = True
    print_log(f'the test set has no labels: nothing is measured, predictions go to {out}', logger='current')
    return True


test_without_labels.__test__ = False  # not for pytest


def writers(cfg: Config) -> list[dict]:
    """The metrics of a segmentor's test that write label maps by ``output_dir``.

    Frames of several videos have the same names: where videos are measured, their metric alone writes, into a folder
    for each.
    """
    metrics = as_list(cfg.get('test_evaluator'))
    return [each for each in metrics if each.get('type') == 'mmvim.VideoConsistency'] or metrics


def _is_bare(entry: dict, out: str | None) -> bool:
    """Whether a data set names no labels; or, if only predictions are wanted, names a folder that is not there."""
    if not _loads_annotations(entry.get('pipeline') or []):
        return True
    prefix = entry.get('data_prefix')
    if prefix is None:  # that of its class
        return False
    labels = prefix.get('seg_map_path')
    if labels is None:
        return 'img_path' in prefix  # without both, the class finds labels in a way of its own
    if out is None or '://' in labels:
        return False
    folder = os.path.join(entry.get('data_root') or '', labels)
    return not os.path.isdir(folder) or not os.listdir(folder)


def _loads_annotations(steps: Any) -> bool:
    if isinstance(steps, (list, tuple)):
        return any(map(_loads_annotations, steps))
    return isinstance(steps, dict) and (_is_annotations(steps) or _loads_annotations(steps.get('transforms') or []))


def _without_annotations(steps: Any) -> Any:
    """A pipeline without the steps that load labels, inside of wrappers too."""
    kept = []
    for step in steps:
        if isinstance(step, (list, tuple)):
            inner = _without_annotations(step)
            if inner or not step:
                kept.append(inner)
        elif not _is_annotations(step):
            inner = {'transforms': _without_annotations(step['transforms'])} if 'transforms' in step else {}
            kept.append({**step, **inner})
    return kept


def _is_annotations(step: dict) -> bool:
    return 'Annotation' in str(step.get('type', ''))
