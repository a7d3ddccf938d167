"""The data sets of a config, each with what checks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .captions import CaptionChecker
from .checker import Checker
from .coco.checker import CocoChecker
from .dota import DotaChecker
from .image_folders import ImageFolderChecker
from .label_checker import LabelMapChecker
from .other import OtherChecker
from .places import inner_datasets
from .tally import Kind, Severity, Tally

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

CANNOT_BUILD = Kind(Severity.ERROR, 'data sets that cannot be built', 'correct their entries in the config.')


def checkers_of(cfg: Config, stages: Sequence[str], tally: Tally) -> Iterator[Checker]:
    """What checks each data set of some stages, those inside of wrappers too; each data set once.

    Args:
        cfg: Config of the run.
        stages: Of ``'train'``, ``'val'`` and ``'test'``.
        tally: Takes data sets that their own class refuses.
    """
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.get('default_scope') or 'mmengine')
    seen: list[dict] = []
    for stage in stages:
        loader = cfg.get(f'{stage}_dataloader')
        for entry in inner_datasets(loader.dataset) if loader else ():
            if entry in seen:
                continue
            seen.append(entry)
            try:
                dataset = _build(entry)
            except Exception as error:  # of any class, anybody's
                sentence = ' '.join(str(error).split())[:300]
                tally.add(CANNOT_BUILD, f'{stage}_dataloader: {type(error).__name__}: {sentence}')
                continue
            yield checker_class(dataset, cfg)(dataset, entry, stage, cfg)


def _build(entry: ConfigDict) -> Any:
    from mmengine.registry import DATASETS

    return DATASETS.build({**entry.to_dict(), 'lazy_init': True})


def checker_class(dataset: Any, cfg: Config) -> type[Checker]:
    """What checks a data set."""
    if cfg.get('default_scope') in ('mmdet', 'mmrotate') and CocoChecker.applies_to(dataset):
        return CocoChecker
    others = (LabelMapChecker, DotaChecker, ImageFolderChecker, CaptionChecker, OtherChecker)
    return next(checker for checker in others if checker.applies_to(dataset))
