"""A model that is kept ready to look at images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from mmengine.infer import BaseInferencer
from PIL import Image
from torch import nn

from mmvim.engine.quiet import quiet
from mmvim.errors import UserValueError
from mmvim.inference import build_inferencer, choose, predict, segment_large
from mmvim.inference.demo import LARGE, MOST_LOGITS
from mmvim.inference.images import count_pixels, read_image
from mmvim.inference.inferencer import number_of_classes
from mmvim.inference.rows import open_rows
from mmvim.machine import clock

from .classifying import Classifier
from .offers import Offer
from .seen import LARGEST, Ranking, Seen, objects, resized, segments, shown_size

#: Pixels of the longer side of an image that goes through a test pipeline, which would make it smaller anyway.
_LONGEST = 2048

#: Is told how many of how many windows are done; may raise what stops it.
Advance = Callable[[int, int], None]


class Viewer:
    """A detector, segmentor or classifier.

    Args:
        offer: What it is.
        device: As for :func:`mmvim.inference.build_inferencer`.

    Attributes:
        inferencer: Of mmdet or mmseg, or a :class:`Classifier`.
        bytes: What its tensors take.

    Raises:
        ValueError, OSError, RuntimeError: If it cannot be loaded, as ``choose`` and ``build_inferencer``.
    """

    def __init__(self, offer: Offer, device: str | None = None) -> None:
        if offer.missing:
            raise UserValueError(offer.missing)
        with quiet():
            cfg, weights = choose(offer.config, offer.weights)
            self.inferencer: BaseInferencer | Classifier
            if cfg.get('default_scope') == 'mmengine':
                self.inferencer = Classifier(cfg, weights, device)
            else:
                self.inferencer = build_inferencer(cfg, weights, device)
        self.offer = offer
        tensors = [*self.model.parameters(), *self.model.buffers()]
        self.bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.inferencer.model

    @property
    def segments(self) -> bool:
        """Whether it gives each pixel a class."""
        return hasattr(self.model, 'decode_head')

    @property
    def classifies(self) -> bool:
        """Whether it gives the whole image a class."""
        return isinstance(self.inferencer, Classifier)

    def describe(self) -> str:
        """What it is and what became of its weights."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        backbone = type(self.model.backbone).__name__
        return f'{backbone}, {parameters / 1e6:.1f} M parameters. {self.inferencer.report}'

    def look(self, path: Path, windows: bool, advance: Advance) -> Seen:
        """Look at an image.

        Args:
            path: Its file.
            windows: Whether a segmentor goes over it by a window, in its own resolution; it does over large ones.
            advance: Of the windows.

        Raises:
            ValueError, OSError, RuntimeError: If that cannot be done.
        """
        with quiet():
            large = count_pixels(path) > LARGE
            if self.segments and (windows or large):
                return self._look_by_windows(path, advance)
            if large and not self.classifies:
                raise UserValueError(
                    f'{path.name} has more than {LARGE // 10**6} megapixels: make it smaller, or take a segmentor'
                )
            return self._classify(path) if self.classifies else self._look_at_once(path)

    def _look_at_once(self, path: Path) -> Seen:
        start = clock()
        whole = read_image(path)
        image, notes = self._in_bounds(whole)
        shown = resized(whole, shown_size(*whole.shape[:2]))
        read = clock()
        found, in_model = timed_predict(self.inferencer, image)
        times = {'reading': read - start, 'preprocessing': clock() - read - in_model, 'model': in_model}
        meta = self.model.dataset_meta
        common = {
            'image': shown,
            'times': times,
            'notes': notes,
            'classes': meta['classes'],
            'palette': meta['palette'],
        }
        if 'pred_sem_seg' in found:
            return segments(found.pred_sem_seg.data[0].cpu().numpy(), **common)
        return objects(found.pred_instances, image.shape[:2], **common)

    def _in_bounds(self, image: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """An image that what is made of it has room for, and what was done to it."""
        height, width = image.shape[:2]
        ratio = min(_LONGEST / max(height, width), 1.0)
        if self.segments:
            logits = height * width * number_of_classes(self.model)
            ratio = min(ratio, (MOST_LOGITS / logits) ** 0.5)
        if ratio >= 1:
            return image, []
        size = max(int(width * ratio), 1), max(int(height * ratio), 1)
        note = f'Looked at with {size[0]} x {size[1]} pixels instead of {width} x {height}.'
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA), [note]

    def _look_by_windows(self, path: Path, advance: Advance) -> Seen:
        start = clock()
        image = sampled(path)
        shown = resized(image, shown_size(*image.shape[:2]))
        read, total, done = clock(), 0, 0

        def begin(windows: int) -> None:
            nonlocal total
            total = windows

        def add(windows: int) -> None:
            nonlocal done
            done += windows
            advance(done, total)

        with TemporaryDirectory() as folder:
            written = segment_large(self.inferencer, path, Path(folder, 'large'), begin=begin, advance=add)
            with Image.open(next(file for file in written if file.stem.endswith('_labels'))) as labels:
                labels = np.asarray(labels)
        times = {'reading': read - start, f'model, {total} windows': clock() - read}
        meta = self.model.dataset_meta
        note = f'In its own resolution of {labels.shape[1]} x {labels.shape[0]} pixels, by {total} windows.'
        return segments(
            labels, image=shown, times=times, notes=[note], classes=meta['classes'], palette=meta['palette']
        )

    def _classify(self, path: Path) -> Seen:
        start = clock()
        image = sampled(path)
        shown = resized(image, shown_size(*image.shape[:2]))
        read = clock()
        inputs = self.inferencer.prepare(path)
        prepared = clock()
        scores = self.inferencer.scores(inputs)
        times = {'reading': read - start, 'preprocessing': prepared - read, 'model': clock() - prepared}
        return Ranking(shown, self.inferencer.classes, (), times, scores=scores)


def timed_predict(inferencer: BaseInferencer, image: np.ndarray) -> tuple:
    """:func:`mmvim.inference.predict`, and the seconds that the model took of it."""
    forward, seconds = inferencer.forward, 0.0

    def timed(*arguments: object, **options: object) -> object:
        nonlocal seconds
        start = clock()
        outputs = forward(*arguments, **options)
        seconds += clock() - start
        return outputs

    inferencer.forward = timed
    try:
        return predict(inferencer, image), seconds
    finally:
        del inferencer.forward


def sampled(path: Path) -> np.ndarray:
    """An image of any size, (h, w, 3) uint8, BGR; of a very large one every n-th pixel, read some rows at a time."""
    with open_rows(path) as rows:
        step = max(max(rows.height, rows.width) // (2 * LARGEST), 1)
        tops = range(0, rows.height, 64 * step)
        bands = [rows.read(top, min(top + 64 * step, rows.height))[::step, ::step] for top in tops]
        return np.concatenate(bands)
