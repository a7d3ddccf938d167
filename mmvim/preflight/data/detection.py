"""What a detector's config says about its data: numbers of classes, and whether masks are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .places import as_list
from .tally import Kind, Severity, Tally

# Heads that count other things than the classes of the boxes.
OTHERS = {
    'backbone',
    'data_preprocessor',
    'neck',
    'panoptic_fusion_head',
    'panoptic_head',
    'rpn_head',
    'semantic_head',
    'test_cfg',
    'train_cfg',
}
NO_MASKS_READ = Kind(
    Severity.ERROR,
    'models with a mask_head whose pipeline reads no masks',
    "set dict(type='LoadAnnotations', with_bbox=True, with_mask=True) in train_dataloader.dataset.pipeline.",
)


def heads_of(model: dict) -> Iterator[tuple[str, int]]:
    """Where a detector's config has ``num_classes`` of its boxes and masks, and what it is."""
    model = model.get('module') or model  # around it: test-time augmentation
    yield from _numbers(model.get('detector') or model, 'model')


def _numbers(entry: Any, key: str) -> Iterator[tuple[str, int]]:
    if isinstance(entry, dict):
        if isinstance(entry.get('num_classes'), int):
            yield key, entry['num_classes']
        for name, child in entry.items():
            if name not in OTHERS and isinstance(child, (dict, list, tuple)):
                yield from _numbers(child, f'{key}.{name}')
    elif isinstance(entry, (list, tuple)):
        for number, child in enumerate(entry):
            yield from _numbers(child, f'{key}.{number}')


def check_heads(model: dict, classes: Sequence[str] | None, tally: Tally, stage: str) -> None:
    """Compare the numbers of classes of all heads with that of the data set."""
    if classes is None or isinstance(classes, str):
        return
    for key, number in heads_of(model):
        if number != len(classes):
            remedy = f'set {key}.num_classes={len(classes)}, or correct metainfo.classes.'
            kind = Kind(Severity.ERROR, 'num_classes that is not the number of classes', remedy)
            tally.add(kind, f'{key}.num_classes={number}, {stage}: {len(classes)} classes')


def check_mask_loading(model: dict, dataset: Any, tally: Tally, stage: str) -> None:
    """See that a model which learns masks is given some."""
    has_head = any(part.get('mask_head') for part in (model, model.get('roi_head') or {}))
    loads = [step for step in _steps(dataset) if hasattr(step, 'with_mask')]
    if stage == 'train' and has_head and loads and not any(step.with_mask for step in loads):
        tally.add(NO_MASKS_READ, 'train_dataloader')


def needs_masks(dataset: Any, evaluators: Iterable[dict]) -> bool:
    """Whether the pipeline of a data set reads masks, or they are measured."""
    measured = any('segm' in as_list(evaluator.get('metric')) for evaluator in evaluators)
    return measured or any(getattr(step, 'with_mask', False) for step in _steps(dataset))


def _steps(dataset: Any) -> Iterable[Any]:
    return getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
