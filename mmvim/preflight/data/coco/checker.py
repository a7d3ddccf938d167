"""Everything that is checked of a data set in COCO's JSON format, in its order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from mmvim.machine import no_garbage_collection

from ..checker import Checker, Progress, Statistics
from ..detection import check_heads, check_mask_loading, needs_masks
from ..file_names import Folders
from ..places import STAGES, as_list, inner_datasets
from ..spread import spread
from ..tally import Kind, Severity, Tally
from .boxes import check_boxes
from .categories import check_categories, check_classes
from .file import CocoFile, read_coco
from .filled import check_filled
from .ids import check_ids
from .images import Expected, check_contents, check_headers, check_images
from .masks import check_masks
from .mend import write_mended
from .statistics import statistics_of

OTHER_EVALUATOR = Kind(
    Severity.WARNING,
    'evaluators that read another annotation file than their data set',
    'give CocoMetric the ann_file of the data set; it does not follow data_root.',
)
#: Headers of so many images are read at the start of a training.
SAMPLE = 200


class CocoChecker(Checker):
    """Checks mmdet's ``CocoDataset`` and what derives from it without reading files of another form."""

    file: CocoFile | None = None
    images: list[Expected]

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        from mmdet.datasets import CocoDataset
        from mmdet.datasets.api_wrappers import COCO

        return isinstance(dataset, CocoDataset) and dataset.COCOAPI is COCO

    @property
    def name(self) -> str:
        return self.dataset.ann_file

    def quick(self, until: float) -> Tally:
        tally = self._annotations(full=False)
        there = check_images(self.images, Folders(), tally)
        check_headers(spread(there, SAMPLE), tally, lambda: monotonic() < until)
        return tally

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        tally = self._annotations(full=True)
        there = check_images(self.images, Folders(), tally)
        chosen = spread(there, images)
        check_contents(chosen, tally, lambda items: progress(items, len(chosen), f'{self.stage}: images'))
        if self.file is None:
            return tally, Statistics()
        return tally, statistics_of(self.file, self._classes(), self.dataset)

    def image_files(self) -> list[str]:
        return [path for path, _ in self.images]

    def mend(self, folder: Path) -> str:
        if self.file is None or self.file.is_whole:
            return ''
        copy = write_mended(self.file, folder)
        absolute = str(copy.resolve())  # which no data_root is put before
        for evaluator in self._evaluators():
            if os.path.realpath(evaluator.ann_file) == os.path.realpath(self.file.path):
                evaluator.ann_file = absolute
        for entry in [entry for entry in self._all_entries() if entry == self.entry]:
            entry.ann_file = absolute
        return f'{self.file.path} is read from {copy}, where this is mended.'

    def draw(self, folder: Path, count: int) -> list[Path]:
        from .draw import draw_images

        return [] if self.file is None else draw_images(self.file, self.image_files(), folder, count)

    def _annotations(self, full: bool) -> Tally:
        tally = Tally()
        self.images = []
        self.file = file = read_coco(self.dataset.ann_file, tally, self.stage)
        check_heads(self.cfg.model, self._classes(), tally, self.stage)
        check_mask_loading(self.cfg.model, self.dataset, tally, self.stage)
        if file is None:
            return tally
        with no_garbage_collection():
            check_ids(file, tally)
            check_categories(file, tally)
            if self._numbers_by_file():
                check_classes(file, self._classes(), tally, self.stage)
            check_boxes(file, tally)
            check_masks(file, needs_masks(self.dataset, self._evaluators()), tally, full)
            check_filled(file, tally)
        for evaluator in self._evaluators():
            if os.path.realpath(evaluator.ann_file) != os.path.realpath(file.path):
                tally.add(OTHER_EVALUATOR, f'{self.stage}_evaluator: {evaluator.ann_file}, the data set {file.path}')
        prefix = self.dataset.data_prefix.get('img') or ''
        paths = (os.path.join(prefix, str(image['file_name'])) for image in file.images)
        self.images = list(zip(paths, map(tuple, file.sizes.tolist()), strict=True))
        return tally

    def _classes(self) -> Any:
        return self.dataset.metainfo.get('classes')

    def _numbers_by_file(self) -> bool:
        """Whether classes are numbered as ``CocoDataset`` itself does."""
        from mmdet.datasets import CocoDataset

        return type(self.dataset).load_data_list is CocoDataset.load_data_list

    def _all_entries(self) -> Iterator[Any]:
        """The data sets of the config; those that are there twice are checked once."""
        for stage in STAGES:
            loader = self.cfg.get(f'{stage}_dataloader')
            yield from inner_datasets(loader.dataset) if loader else ()

    def _evaluators(self) -> Iterator[Any]:
        """Those of this stage that read an annotation file."""
        if self.stage != 'train':
            for evaluator in as_list(self.cfg.get(f'{self.stage}_evaluator')):
                if evaluator.get('ann_file'):
                    yield evaluator
