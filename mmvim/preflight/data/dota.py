"""Rotated boxes in the texts of DOTA, a line for each object."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np

from .checker import Checker, Progress, Statistics, no_progress
from .detection import check_heads
from .dota_draw import draw_boxes
from .file_names import MISSING_IMAGE, Folders
from .label_checker import SAMPLE, describe_sizes
from .label_files import examine_all
from .label_maps import CUT_OFF, UNDECODABLE
from .spread import spread
from .tally import Kind, Severity, Tally

NO_TEXTS = Kind(Severity.ERROR, 'folders without a single .txt', 'correct data_root or ann_file.')
NOT_CUT = Kind(
    Severity.ERROR,
    'texts as they are downloaded, with lines on source and scale',
    "cut the images into tiles by mmrotate's tools/data/dota/split/img_split.py, which writes others.",
)
UNREADABLE = Kind(
    Severity.ERROR, 'lines that cannot be read', 'write x1 y1 x2 y2 x3 y3 x4 y4 class difficulty, the last a number.'
)
UNKNOWN = Kind(Severity.ERROR, 'classes that the data set does not have', 'correct them, or name them in metainfo.')
NO_AREA = Kind(Severity.ERROR, 'boxes without an area, which have no angle', 'correct or delete their lines.')
OUTSIDE = Kind(Severity.WARNING, 'boxes whose middle is outside of the image', 'see that they belong to this image.')
# Less is no box that could be learned, and its angle is chance.
LEAST_AREA = 1.0


@dataclass(frozen=True)
class Box:
    """A line: (4, 2) corners as x and y in pixels, class, difficulty, and where it stands."""

    corners: np.ndarray
    name: str
    difficulty: int
    place: str


class DotaChecker(Checker):
    """Checks mmrotate's ``DOTADataset`` and what derives from it."""

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        return any(base.__name__ == 'DOTADataset' for base in type(dataset).__mro__) and bool(dataset.ann_file)

    @property
    def name(self) -> str:
        return self.dataset.ann_file

    def quick(self, until: float) -> Tally:
        return self._check(SAMPLE, until, no_progress)[0]

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        return self._check(images, None, progress)

    def image_files(self) -> list[str]:
        return list(self._boxes)

    def draw(self, folder: Path, count: int) -> list[Path]:
        with_boxes = [image for image, boxes in self._boxes.items() if boxes]
        return draw_boxes({image: self._boxes[image] for image in spread(with_boxes, count)}, folder)

    @cached_property
    def _classes(self) -> list[str]:
        return list(self.dataset.metainfo['classes'])

    def _check(self, images: int | None, until: float | None, progress: Progress) -> tuple[Tally, Statistics]:
        tally = Tally()
        check_heads(self.cfg.model, self._classes, tally, self.stage)
        self._boxes = self._read(tally)
        folders, there = Folders(), []
        for image in self._boxes:
            if folders.has(image):
                there.append((image, None))
            else:
                near = folders.instead(image)
                tally.add(MISSING_IMAGE, f'{image} (there is {near})' if near else image)
        chosen, sizes = spread(there, images), Counter()
        seconds = None if until is None else max(until - monotonic(), 0.0)
        pairs = examine_all(
            chosen, seconds=seconds, progress=lambda items: progress(items, len(chosen), f'{self.stage}: images')
        )
        for pair in pairs:
            if pair.image_fault:
                tally.add(UNDECODABLE if pair.image_fault == 'undecodable' else CUT_OFF, pair.image)
            elif pair.size is not None:
                sizes[pair.size] += 1
                self._check_inside(self._boxes[pair.image], pair.size, tally)
        return tally, self._statistics(sizes)

    def _read(self, tally: Tally) -> dict[str, list[Box]]:
        """The boxes of each image, from all texts."""
        texts = sorted(Path(self.dataset.ann_file).glob('*.txt'))
        if not texts:
            tally.add(NO_TEXTS, self.dataset.ann_file)
        folder, suffix = self.dataset.data_prefix['img_path'], self.dataset.img_suffix
        return {os.path.join(folder, f'{text.stem}.{suffix}'): self._read_text(text, tally) for text in texts}

    def _read_text(self, text: Path, tally: Tally) -> list[Box]:
        boxes = []
        for number, line in enumerate(text.read_text(errors='replace').splitlines(), 1):
            place = f'{text}, line {number}'
            if line.startswith(('imagesource:', 'gsd:')):
                tally.add(NOT_CUT, place)
                continue
            box = read_line(line, place)
            if box is None:
                tally.add(UNREADABLE, f'{place}: {line[:60]!r}')
                continue
            if box.name not in self._classes:
                tally.add(UNKNOWN, f'{place}: {box.name}')
            if cv2.contourArea(box.corners.astype(np.float32)) < LEAST_AREA:
                tally.add(NO_AREA, place)
            boxes.append(box)
        return boxes

    @staticmethod
    def _check_inside(boxes: list[Box], size: tuple[int, int], tally: Tally) -> None:
        """Tiles cut boxes off: those reach beyond the image, and their middle does not."""
        for box in boxes:
            middle = box.corners.mean(axis=0)
            if (middle < 0).any() or (middle > size).any():
                tally.add(OUTSIDE, f'{box.place}: at {middle[0]:.0f}, {middle[1]:.0f} of {size[0]} x {size[1]}')

    def _statistics(self, sizes: Counter) -> Statistics:
        boxes = [box for of_image in self._boxes.values() for box in of_image]
        counts = np.array([len(of_image) for of_image in self._boxes.values()])
        facts = {'images': str(len(counts))}
        if sizes:
            facts['image sizes'] = describe_sizes(sizes)
        if len(counts):
            facts['boxes per image'] = f'{counts.min()} to {counts.max()}, median {np.median(counts):g}'
            facts['images without boxes'] = str(int((counts == 0).sum()))
        difficult = sum(box.difficulty > self.dataset.diff_thr for box in boxes)
        facts[f'boxes of a difficulty above {self.dataset.diff_thr}, left out'] = str(difficult)
        seen = Counter(box.name for box in boxes)
        return Statistics(facts, {name: seen[name] for name in self._classes}, 'instances')


def read_line(line: str, place: str) -> Box | None:
    """Read ``x1 y1 x2 y2 x3 y3 x4 y4 class difficulty``; None if it is something else."""
    words = line.split()
    try:
        values, difficulty = [float(word) for word in words[:8]], int(words[9])
    except (ValueError, IndexError):
        return None
    if not all(map(math.isfinite, values)):
        return None
    return Box(np.array(values).reshape(4, 2), words[8], difficulty, place)
