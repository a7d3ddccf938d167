"""Data sets: whether their files and folders are where they are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmvim.miniature.layouts import LAYOUTS

from ..finding import Finding

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

STAGES = ('train', 'val', 'test')


class Standard(NamedTuple):
    """A data set that configs expect in one place, and that can be drawn in miniature.

    Attributes:
        title: Its name.
        kind: What ``tools/make_miniature.py`` calls it.
        out: The folder that it is drawn into.
        folder: The folder inside that one.
        images: A folder of training images in it.
        annotations: What belongs to them.
    """

    title: str
    kind: str
    out: str
    folder: str
    images: str
    annotations: str

    @property
    def root(self) -> str:
        """The folder of the data set, below the current one."""
        return os.path.join(self.out, self.folder) if self.folder else self.out

    def drawn_by(self, out: str) -> str:
        """The end of a sentence: how a miniature one is made."""
        return f'; a miniature one is drawn by: python tools/make_miniature.py {self.kind} --out {out}'


# By the type that stands in configs. These the doctor asks for.
STANDARDS = {
    'ADE20KDataset': Standard(
        'ADE20K', 'ade20k', 'data/ade', 'ADEChallengeData2016', 'images/training', 'annotations/training'
    ),
    'CocoDataset': Standard(
        'COCO 2017', 'coco', 'data/coco', '', 'train2017', 'annotations/instances_train2017.json'
    ),
}  # fmt: skip

# Drawn too, and not asked for by the doctor.
PRETRAINING = {
    'mmvim.CocoCaptions': Standard(
        'COCO captions', 'captions', 'data/coco', '', 'train2017', 'annotations/captions_train2017.json'
    ),
}
BENCHMARKS = {
    layout.dataset: Standard(
        layout.title, kind, layout.root, '', layout.folder(layout.image), layout.folder(layout.label)
    )
    for kind, layout in LAYOUTS.items()
}
BENCHMARKS['DOTADataset'] = Standard('DOTA', 'dota', 'data/split_ss_dota', '', 'train/images', 'train/annfiles')
BENCHMARKS['LVISV1Dataset'] = Standard(
    'LVIS v1', 'lvis', 'data/lvis_v1', '', 'train2017', 'annotations/lvis_v1_train.json'
)
BENCHMARKS['mmvim.VSPW'] = Standard('VSPW', 'vspw', 'data/VSPW_480p', '', 'data', 'train.txt')


def check_data(cfg: Config, *stages: str) -> Iterator[Finding]:
    """Whether the files of a config's data sets and evaluators are there.

    Args:
        cfg: Config of the run.
        stages: Of ``'train'``, ``'val'`` and ``'test'``, those that the run will read.
    """
    for stage in stages:
        loader = cfg.get(f'{stage}_dataloader')
        for dataset in inner_datasets(loader.dataset) if loader else ():
            root = dataset.get('data_root') or ''
            lacks = find_missing(root, _paths(dataset))
            found = f'The data set of {stage}_dataloader is not in its place: {lacks}'
            remedy = f'put or link it there, or change data_root{_miniature(dataset)}'
            yield Finding(f'{stage}_dataloader', not lacks, found if lacks else f'in {root}', remedy if lacks else '')
        for evaluator in as_list(cfg.get(f'{stage}_evaluator')):
            path = evaluator.get('ann_file')
            if path and _is_missing(path):
                found = f'{stage}_evaluator.ann_file: there is no {path}'
                yield Finding(f'{stage}_evaluator', False, found, 'it does not follow data_root')


def examine_data() -> Iterator[Finding]:
    """The standard data sets, where the configs expect them: below the current folder."""
    for standard in STANDARDS.values():
        root = Path(standard.root)
        lacks = find_missing(standard.root, (standard.images, standard.annotations))
        if lacks:
            remedy = f'put or link the data set into {root}{standard.drawn_by(standard.out)}'
            yield Finding(standard.title, False, lacks, remedy, needed=False)
            continue
        count = sum(1 for _ in os.scandir(root / standard.images))
        drawn = any((place / 'miniature.json').exists() for place in (root, root.parent))
        yield Finding(standard.title, True, f'{count} training images in {root}{", a miniature one" if drawn else ""}')


def find_missing(root: str, paths: Sequence[str]) -> str:
    """What a folder lacks of some files and folders, ``'data has no train and no val'``; empty if it has all."""
    missing = [path for path in paths if _is_missing(os.path.join(root, path))]
    return f'{root or "this folder"} has no {" and no ".join(missing)}' if missing else ''


def inner_datasets(dataset: dict) -> Iterator[ConfigDict]:
    """The data sets inside any wrappers (RepeatDataset, ConcatDataset, ...)."""
    inner = dataset.get('datasets') or as_list(dataset.get('dataset'))
    if not inner:
        yield dataset
    for child in inner:
        yield from inner_datasets(child)


def as_list(value: Any) -> list:
    """What configs have as one or as several, as several."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _paths(dataset: dict) -> list[str]:
    """Every file and folder that a data set names, relative to its root."""
    return list(filter(None, [dataset.get('ann_file'), *(dataset.get('data_prefix') or {}).values()]))


def _miniature(dataset: ConfigDict) -> str:
    """How a miniature data set is drawn into the place of this one, if it can be."""
    root = os.path.normpath(dataset.get('data_root') or '')
    standard = {**STANDARDS, **PRETRAINING, **BENCHMARKS}.get(dataset.type)
    if standard is None or not root.endswith(standard.folder):
        return ''
    return standard.drawn_by(root.removesuffix(standard.folder).rstrip('/'))


def _is_missing(path: str) -> bool:
    """Whether a local path leads nowhere; what is read through a URL is not looked at."""
    return '://' not in path and not os.path.exists(path)
