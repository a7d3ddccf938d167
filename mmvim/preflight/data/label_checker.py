"""Data sets of label maps, as every format of data is asked."""

from collections import Counter
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .checker import Checker, Progress, Statistics, no_progress
from .file_names import Folders
from .label_files import read_label
from .label_maps import LabelStatistics, check_label_maps, is_label_maps, samples_of
from .label_reading import reading_of
from .spread import spread
from .tally import Tally

#: Label maps that are read before training.
SAMPLE = 200


class LabelMapChecker(Checker):
    """Checks images and label maps of mmseg's data sets."""

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        """Whether a data set has this format."""
        return is_label_maps(dataset)

    @property
    def name(self) -> str:
        """The folder of the label maps, or of the images where there are none."""
        prefix = self.dataset.data_prefix
        return str(prefix.get('seg_map_path') or prefix.get('img_path') or type(self.dataset).__name__)

    def quick(self, until: float) -> Tally:
        """Whether all files are there, and what is in some."""
        return self._check(SAMPLE, max(until - monotonic(), 0.0), no_progress)[0]

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        """What is in all files, or in ``images`` of them."""
        tally, numbers = self._check(images, None, progress)
        return tally, _statistics(numbers)

    def _check(self, images: int | None, seconds: float | None, progress: Progress) -> tuple[Tally, LabelStatistics]:
        tally = Tally()

        def show(pairs):
            total = len(self.dataset) if images is None else min(images, len(self.dataset))
            return progress(pairs, total, f'{self.stage}: label maps')

        numbers = check_label_maps(self.dataset, self.cfg.model, tally, self.stage, images, seconds, progress=show)
        return tally, numbers

    @cached_property
    def _samples(self) -> list[tuple[str, str | None]]:
        return list(samples_of(self.dataset)) if self.dataset._fully_initialized else []

    def image_files(self) -> list[str]:
        """The images."""
        return [image for image, _ in self._samples]

    def draw(self, folder: Path, count: int) -> list[Path]:
        """Images beside themselves with the colours of their classes over them; white is left out."""
        reading = reading_of(self.dataset)
        if reading is None:
            return []
        folders = Folders()
        drawable = [pair for pair in self._samples if pair[1] and all(map(folders.has, pair))]
        palette = np.full((256, 3), 255, dtype=np.uint8)
        colours = np.array(self.dataset.metainfo.get('palette') or np.zeros((0, 3)), dtype=np.uint8)
        palette[: len(colours)] = colours
        written = []
        for number, (image_file, label_file) in enumerate(spread(drawable, count)):
            try:
                with Image.open(image_file) as image:
                    picture = np.array((ImageOps.exif_transpose(image) if reading.turns else image).convert('RGB'))
                label = read_label(label_file, reading.backend)
            except (OSError, SyntaxError, ValueError):
                continue
            if label.shape != picture.shape[:2]:
                continue
            over = palette[reading.table[label.astype(np.uint8)]]
            blended = (picture.astype(np.uint16) + over) // 2
            path = folder / f'{self.stage}_{number}_{Path(image_file).stem}.png'
            Image.fromarray(np.hstack([picture, blended.astype(np.uint8)])).save(path)
            written.append(path)
        return written


def _statistics(numbers: LabelStatistics) -> Statistics:
    facts = {'images': f'{numbers.files}', 'label maps read': f'{numbers.read}'}
    if numbers.total:
        facts['pixels left out'] = f'{100 * numbers.ignored / numbers.total:.1f} %'
    if numbers.sizes:
        facts['image sizes'] = describe_sizes(numbers.sizes)
    if numbers.classes:
        facts['classes'] = f'{np.count_nonzero(numbers.pixels)} of {len(numbers.classes)} have pixels'
    pixels = dict(zip(numbers.classes, numbers.pixels.tolist(), strict=True))
    return Statistics(facts=facts, classes=pixels, unit='pixels')


def describe_sizes(sizes: Counter) -> str:
    """Width x height from the smallest to the largest area, and the most frequent."""
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    (width, height), count = sizes.most_common(1)[0]
    if len(ordered) == 1:
        return f'{width} x {height}'
    first, last = (f'{size[0]} x {size[1]}' for size in (ordered[0], ordered[-1]))
    return f'{first} to {last}, most often {width} x {height} ({100 * count / sizes.total():.0f} %)'
