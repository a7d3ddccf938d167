"""Objects that windows over an image have found, and those of several windows that are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from mmvim.errors import UserModuleNotFoundError

from .patches import Patch, cut_out, run_lengths, union

#: Share of the smaller box that lies in the other one, from which on they are the same object; what sahi takes.
SAME = 0.5
#: Common area over whole area from which on rotated boxes are the same object; what mmrotate takes for tiles of DOTA.
SAME_ROTATED = 0.1


@dataclass(frozen=True)
class Found:
    """An object.

    Attributes:
        box: (4,) x1, y1, x2, y2, or (5,) x and y of the middle, width, height and angle in radians, clockwise; in
            pixels of the image.
        score: 0 to 1.
        label: index of its class.
        mask: its pixels, where the model tells them.
    """

    box: np.ndarray
    score: float
    label: int
    mask: Patch | None = None

    @property
    def is_rotated(self) -> bool:
        return len(self.box) == 5

    @property
    def corners(self) -> np.ndarray:
        """(4, 2), x and y, clockwise."""
        if self.is_rotated:
            x, y, width, height, angle = map(float, self.box)
            return cv2.boxPoints(((x, y), (width, height), np.rad2deg(angle)))
        x1, y1, x2, y2 = self.box
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def found_in(instances: object, left: int, top: int, score: float) -> list[Found]:
    """The objects of a window.

    Args:
        instances: ``pred_instances`` of mmdet, in pixels of the window.
        left, top: where it begins, in pixels of the image.
        score: confidence from which on they count.
    """
    boxes = instances.bboxes
    boxes = getattr(boxes, 'tensor', boxes).cpu().numpy().astype(np.float64)
    boxes[:, :2] += left, top
    if boxes.shape[1] == 4:
        boxes[:, 2:] += left, top
    masks = instances.masks.cpu().numpy() if 'masks' in instances else [None] * len(boxes)
    rows = zip(boxes, instances.scores.tolist(), instances.labels.tolist(), masks, strict=True)
    return [
        Found(box, confidence, label, None if mask is None else cut_out(mask, left, top))
        for box, confidence, label, mask in rows
        if confidence >= score
    ]


def merge(found: Sequence[Found]) -> list[Found]:
    """Make one of those that several windows have found, for each class by itself; the surest ones come first.

    An object at the border of a window is found in parts, or whole in the next window and in part in this one: boxes of
    which one lies with half of its area or more in the other become the box around both, and their masks are joined, by
    the greedy non-maximum merging of sahi (https://github.com/obss/sahi, MIT licence). Of rotated boxes the surest one
    stays, as mmrotate merges tiles.

    Raises:
        ModuleNotFoundError: if sahi is not installed.
    """
    if not found:
        return []
    merged = _surest(found) if found[0].is_rotated else _joined(found)
    return sorted(merged, key=lambda one: -one.score)


def _joined(found: Sequence[Found]) -> list[Found]:
    try:
        from sahi.postprocess.backends import set_postprocess_backend
        from sahi.postprocess.combine import batched_greedy_nmm
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(
            f'boxes of several windows are merged by {error.name}; in the folder of mmvim: pip install ".[large]"'
        ) from error
    set_postprocess_backend('numpy')  # numba, if there, would compile for longer than most images take
    table = np.array([[*one.box, one.score, one.label] for one in found])
    groups = batched_greedy_nmm(table, match_metric='IOS', match_threshold=SAME)
    return [_one(found[first], [found[other] for other in others]) for first, others in groups.items()]


def _one(surest: Found, others: Sequence[Found]) -> Found:
    boxes = np.array([surest.box, *(other.box for other in others)])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    masks = [one.mask for one in (surest, *others) if one.mask is not None]
    return Found(box, surest.score, surest.label, union(masks) if masks else None)


def _surest(found: Sequence[Found]) -> list[Found]:
    from mmcv.ops import nms_rotated

    boxes = torch.tensor(np.array([one.box for one in found]), dtype=torch.float32)
    scores, labels = torch.tensor([one.score for one in found]), torch.tensor([one.label for one in found])
    kept = nms_rotated(boxes, scores, SAME_ROTATED, labels)[1]
    return [found[index] for index in kept.tolist()]


def to_coco(found: Sequence[Found], name: str, size: tuple[int, int], classes: Sequence[str]) -> dict:
    """An image and its objects as a file of COCO has them, with a ``score`` to each.

    Args:
        found: the objects.
        name: file name of the image.
        size: its height and width.
        classes: names of the classes; their ids count from 1.

    Returns:
        ``images``, ``categories`` and ``annotations``. The ``segmentation`` is the mask in run lengths, or the corners
        of a rotated box, or of any other.
    """
    height, width = size
    return {
        'images': [{'id': 1, 'file_name': name, 'width': width, 'height': height}],
        'categories': [{'id': number, 'name': one} for number, one in enumerate(classes, 1)],
        'annotations': [_annotation(number, one, height, width) for number, one in enumerate(found, 1)],
    }


def _annotation(number: int, one: Found, height: int, width: int) -> dict:
    corners = one.corners
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0)
    if one.mask is None:
        area = float(cv2.contourArea(corners.astype(np.float32)))
        segmentation = [[round(float(value), 2) for value in corners.ravel()]]
    else:
        area = float(one.mask.pixels.sum())
        segmentation = run_lengths(one.mask, height, width)
    return {
        'id': number,
        'image_id': 1,
        'category_id': one.label + 1,
        'bbox': [round(float(value), 2) for value in (left, top, right - left, bottom - top)],
        'area': area,
        'iscrowd': 0,
        'score': round(one.score, 4),
        'segmentation': segmentation,
    }
