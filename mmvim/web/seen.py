"""What a model sees in an image, small enough to be kept for every visitor and drawn again in no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

#: Pixels of the longer side of what is shown.
SMALLEST, LARGEST = 512, 1280

Colours = Sequence[Sequence[int]]


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in which an image is shown: small ones enlarged, for a label has to be readable on them."""
    longer = max(height, width)
    factor = min(max(longer, SMALLEST), LARGEST) / longer
    return max(round(height * factor), 1), max(round(width * factor), 1)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W[, C]) uint8 in another height and width, smooth."""
    shrinks = size[0] < image.shape[0]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) labels or a mask in another height and width."""
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST)


@dataclass
class Seen:
    """What is common to all that is seen.

    Attributes:
        image: (h, w, 3) uint8, BGR, in the size that is shown.
        classes: Names of all classes.
        palette: Their colours, RGB.
        times: Seconds by the name of what took them, in order.
        notes: What there is to say of how the image was looked at.
    """

    image: np.ndarray
    classes: Sequence[str]
    palette: Colours
    times: dict[str, float]
    notes: list[str] = field(default_factory=list)


@dataclass
class Segments(Seen):
    """Classes of pixels.

    Attributes:
        labels: (h, w), the class of each pixel that is shown.
        counts: (classes,) pixels of each class, in the image as the model saw it.
    """

    labels: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.uint8))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))


@dataclass
class Objects(Seen):
    """Boxes, with masks where the model makes them.

    Attributes:
        boxes: (N, 4), left, top, right and bottom in pixels of what is shown.
        scores: (N,) Falling.
        labels: (N,) Their classes.
        masks: (N, h, w) bool; None without masks.
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    masks: np.ndarray | None = None


@dataclass
class Ranking(Seen):
    """The class of the whole image.

    Attributes:
        scores: (classes,) Probabilities.
    """

    scores: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))


#: Objects of an image that are kept; mmdet gives up to 100 or 300.
_MOST_OBJECTS = 100


def segments(labels: np.ndarray, **common: object) -> Segments:
    """From a label map (H, W) of any size."""
    counts = np.bincount(labels.ravel(), minlength=len(common['classes']))
    labels = labels.astype(np.uint8 if len(counts) <= 256 else np.uint16)
    return Segments(labels=nearest(labels, common['image'].shape[:2]), counts=counts, **common)


def objects(found: BaseDataElement, size: tuple[int, int], **common: object) -> Objects:
    """From the ``pred_instances`` of mmdet, in pixels of an image of ``size``."""
    shown = common['image'].shape[:2]
    order = found.scores.argsort(descending=True)[:_MOST_OBJECTS]
    found = found[order].cpu()
    scale = np.float32([shown[1] / size[1], shown[0] / size[0]] * 2)
    masks = None
    if 'masks' in found:
        small = [nearest(np.asarray(mask, np.uint8), shown) for mask in found.masks]
        masks = np.stack(small).astype(bool) if small else np.zeros((0, *shown), bool)
    boxes = found.bboxes.numpy() * scale
    return Objects(boxes=boxes, scores=found.scores.numpy(), labels=found.labels.numpy(), masks=masks, **common)
