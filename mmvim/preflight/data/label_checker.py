"""Label maps behind the interface that all formats share."""

from __future__ import annotations

from time import monotonic
from typing import Any

from .checker import Checker, Progress, Statistics
from .label_maps import LabelStatistics, check_label_maps, is_label_maps, samples_of
from .tally import Tally

#: Label maps that are read at the start of a training.
SAMPLE = 200


class LabelMapChecker(Checker):
    """Checks images and label maps as mmseg's data sets have them."""

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        return is_label_maps(dataset)

    @property
    def name(self) -> str:
        return self.dataset.ann_file or self.dataset.data_prefix.get('img_path') or self.dataset.data_root or ''

    def quick(self, until: float) -> Tally:
        tally = Tally()
        seconds = max(until - monotonic(), 0)
        check_label_maps(self.dataset, self.cfg.model, tally, self.stage, images=SAMPLE, seconds=seconds)
        return tally

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        tally = Tally()
        found = check_label_maps(
            self.dataset,
            self.cfg.model,
            tally,
            self.stage,
            images=images,
            progress=lambda items: progress(items, min(images or len(self.dataset), len(self.dataset)), self.stage),
        )
        return tally, Statistics(_facts(found), dict(zip(found.classes, found.pixels.tolist(), strict=True)), 'pixels')

    def image_files(self) -> list[str]:
        return [image for image, _ in samples_of(self.dataset)]


def _facts(found: LabelStatistics) -> dict[str, str]:
    facts = {'images': str(found.files), 'label maps read': str(found.read)}
    if found.sizes:
        (width, height), often = found.sizes.most_common(1)[0]
        facts['image sizes'] = f'{len(found.sizes)} different; {width} x {height} in {often}'
    if found.total:
        facts['share of pixels left out'] = f'{found.ignored / found.total:.1%}'
    return facts
