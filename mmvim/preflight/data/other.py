"""Data sets of other formats: that their class can list them, and that their images are there."""

from __future__ import annotations

import os
from collections import Counter
from time import monotonic
from typing import Any

from .checker import Checker, Progress, Statistics
from .file_names import Folders
from .label_files import examine_all, look_at_image
from .spread import spread
from .tally import Kind, Severity, Tally

CANNOT_LIST = Kind(
    Severity.ERROR, 'data sets that cannot list their files', 'correct data_root, data_prefix or ann_file.'
)
EMPTY = Kind(Severity.ERROR, 'data sets without a single image', 'correct data_root, data_prefix or ann_file.')
MISSING = Kind(Severity.ERROR, 'images that are missing', 'put them there, or take them off the list.')
UNDECODABLE = Kind(Severity.ERROR, 'images that cannot be decoded', 'copy or export them again.')
NO_PATHS = Kind(Severity.NOTE, 'data sets whose images cannot be looked at', 'nothing; they name no files.')
SAMPLE = 50


class OtherChecker(Checker):
    """Checks what all of OpenMMLab's data sets have in common."""

    _files: list[str]

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        return True

    @property
    def name(self) -> str:
        where = getattr(self.dataset, 'ann_file', '') or getattr(self.dataset, 'data_root', '')
        return f'{type(self.dataset).__name__} {where or ""}'.strip()

    def quick(self, until: float) -> Tally:
        tally = Tally()
        for path in spread(self._there(tally), SAMPLE):
            if monotonic() > until:
                break
            if look_at_image(path)[0] == 'undecodable':
                tally.add(UNDECODABLE, path)
        return tally

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        tally = Tally()
        chosen = spread(self._there(tally), images)
        sizes: Counter = Counter()
        pairs = examine_all(
            [(path, None) for path in chosen],
            progress=lambda items: progress(items, len(chosen), f'{self.stage}: images'),
        )
        for pair in pairs:
            if pair.image_fault == 'undecodable':
                tally.add(UNDECODABLE, pair.image)
            elif pair.size:
                sizes[pair.size] += 1
        facts = {'images': str(len(self._files))}
        if sizes:
            (width, height), often = sizes.most_common(1)[0]
            facts['image sizes'] = f'{len(sizes)} different; {width} x {height} in {often} of {sum(sizes.values())}'
        return tally, Statistics(facts, self._classes(), 'instances')

    def image_files(self) -> list[str]:
        return self._files

    def _there(self, tally: Tally) -> list[str]:
        """The images that are there."""
        self._files = []
        try:
            self.dataset.full_init()
            infos = [self.dataset.get_data_info(number) for number in range(len(self.dataset))]
        except Exception as error:  # of any class, anybody's
            tally.add(CANNOT_LIST, f'{self.stage}: {self.name}: {type(error).__name__}: {str(error)[:200]}')
            return []
        if not infos:
            tally.add(EMPTY, f'{self.stage}: {self.name}')
        self._infos = [info for info in infos if isinstance(info, dict)]
        self._files = [info['img_path'] for info in self._infos if isinstance(info.get('img_path'), str)]
        if infos and not self._files:
            tally.add(NO_PATHS, f'{self.stage}: {self.name}')
        folders = Folders()
        there = []
        for path in self._files:
            if folders.has(path):
                there.append(path)
            else:
                near = folders.instead(path)
                tally.add(MISSING, f'{path} (there is {near})' if near else path)
        return [path for path in there if '://' not in path and os.path.isfile(path)]

    def _classes(self) -> dict[str, int]:
        names = getattr(self.dataset, 'metainfo', {}).get('classes') or ()
        counts: Counter = Counter()
        for info in getattr(self, '_infos', ()):
            instances = info.get('instances') or ()
            counts.update(entry.get('bbox_label') for entry in instances)
            if isinstance(info.get('gt_label'), int):
                counts[info['gt_label']] += 1
        return {name: counts[number] for number, name in enumerate(names)} if counts else {}
