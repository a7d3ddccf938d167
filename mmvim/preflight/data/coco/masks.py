"""Masks: polygons, and run lengths as lists or as text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from ..tally import Kind, Severity, Tally
from .file import CocoFile

NO_MASK = Kind(
    Severity.LEFT_OUT, 'annotations without a mask, which the model needs', 'draw it, or take the annotation out.'
)
NO_MASK_AT_ALL = Kind(
    Severity.ERROR,
    'annotation files without masks, which the model needs',
    'export masks too, or train a model of boxes alone: one without mask_head, LoadAnnotations(with_mask=False), and '
    "CocoMetric(metric='bbox').",
)
FEW_POINTS = Kind(
    Severity.LEFT_OUT, 'masks of polygons with fewer than three points', 'draw them again, or take the annotations out.'
)
ODD = Kind(
    Severity.LEFT_OUT,
    'masks of polygons with an odd number of coordinates',
    'export again: a polygon is x0, y0, x1, y1, ...',
)
NO_MASK_FORM = Kind(
    Severity.LEFT_OUT,
    'masks that are neither polygons nor run lengths',
    'segmentation is [[x0, y0, x1, y1, ...], ...] or {"counts": ..., "size": [height, width]}.',
)
PARTS = Kind(
    Severity.WARNING,
    'polygons of fewer than three points, or with an odd number of coordinates, beside good ones',
    'take them out; training goes on without these polygons.',
)
OTHER_SIZE = Kind(
    Severity.LEFT_OUT,
    'run lengths of another size than their image',
    'export again; size is [height, width] of the image.',
)
WRONG_SUM = Kind(
    Severity.LEFT_OUT,
    'run lengths that do not add up to their size',
    'export again: counts cover height x width pixels.',
)
NO_NUMBERS = Kind(
    Severity.LEFT_OUT, 'polygons with coordinates that are no numbers', 'export again; NaN and text are no coordinates.'
)
BEYOND = Kind(
    Severity.WARNING,
    'polygons that reach beyond their image',
    'cut them off at its border, or see whether its size is right.',
)
FLAT = Kind(Severity.WARNING, 'masks without a pixel', 'draw them again, or take the annotations out.')
TOLERANCE = 1.0


def check_masks(file: CocoFile, needed: bool, tally: Tally, full: bool = False) -> None:
    """Check all masks.

    Args:
        file: The annotations.
        needed: Whether the model learns masks or masks are measured. Otherwise faults are not told: nothing reads
            them but the area of an object.
        tally: Takes the faults.
        full: Also look at each coordinate, and at run lengths that are text.
    """
    if not needed or not file.annotations:
        return
    masks = [annotation.get('segmentation') for annotation in file.annotations]
    missing = [position for position, mask in enumerate(masks) if not mask]
    if len(missing) == len(masks):
        tally.add(NO_MASK_AT_ALL, file.path)
        return
    _leave_out(file, tally, NO_MASK, missing)
    polygons = [position for position, mask in enumerate(masks) if mask and type(mask) is list]
    codes = [position for position, mask in enumerate(masks) if mask and type(mask) is dict]
    strange = [position for position, mask in enumerate(masks) if mask and type(mask) not in (list, dict)]
    good = _polygons(file, masks, polygons, strange, tally)
    _leave_out(file, tally, NO_MASK_FORM, sorted(strange))
    _run_lengths(file, masks, codes, tally, full)
    if full:
        _coordinates(file, masks, good, tally)


def _leave_out(file: CocoFile, tally: Tally, kind: Kind, positions: list[int]) -> None:
    file.report(tally, kind, positions)
    file.left_out[positions] = True


def _polygons(file: CocoFile, masks: list, polygons: list[int], strange: list[int], tally: Tally) -> np.ndarray:
    """Positions of those that can be used."""
    parts = np.fromiter((len(masks[position]) for position in polygons), np.int64, len(polygons))
    every = (part for position in polygons for part in masks[position])
    lengths = np.fromiter((len(part) if type(part) is list else -1 for part in every), np.int64, parts.sum())
    owner = np.repeat(np.arange(len(polygons)), parts)
    flat = np.bincount(owner[lengths < 0], minlength=len(polygons)) > 0
    bad = (lengths < 6) | (lengths % 2 == 1)
    faulty = np.bincount(owner[bad], minlength=len(polygons))
    positions = np.array(polygons, dtype=np.int64)
    strange += positions[flat].tolist()
    all_bad = ~flat & (faulty == parts)
    odd = np.bincount(owner[(lengths % 2 == 1) & (lengths >= 0)], minlength=len(polygons)) > 0
    _leave_out(file, tally, ODD, positions[all_bad & odd].tolist())
    _leave_out(file, tally, FEW_POINTS, positions[all_bad & ~odd].tolist())
    some = positions[~flat & (faulty > 0) & ~all_bad]
    file.report(tally, PARTS, some)
    for position in some.tolist():
        file.change(position, segmentation=[part for part in masks[position] if is_polygon(part)])
    return positions[~flat & ~all_bad]


def is_polygon(part: Any) -> bool:
    """Whether it has at least three points and an even number of coordinates."""
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0


def _run_lengths(file: CocoFile, masks: list, codes: list[int], tally: Tally, full: bool) -> None:
    strange, other_size, wrong_sum = [], [], []
    for position in codes:
        counts, size = masks[position].get('counts'), masks[position].get('size')
        if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, (list, str)):
            strange.append(position)
            continue
        index = file.image_index[position]
        if index >= 0 and (size[1], size[0]) != tuple(file.sizes[index]):
            other_size.append(position)
        elif isinstance(counts, list):
            if (
                not all(type(count) in (int, float) and count >= 0 for count in counts)
                or sum(counts) != size[0] * size[1]
            ):
                wrong_sum.append(position)
        elif full:
            decoded = decode_counts(counts)
            if decoded is None or decoded.min(initial=0) < 0 or decoded.sum() != size[0] * size[1]:
                wrong_sum.append(position)
    for kind, found in ((NO_MASK_FORM, strange), (OTHER_SIZE, other_size), (WRONG_SUM, wrong_sum)):
        _leave_out(file, tally, kind, found)


def decode_counts(text: str) -> np.ndarray | None:
    """Run lengths, int64, of COCO's text for them.

    Each character has five bits of a number, the lowest first, and a sixth that says whether it goes on; from the
    fourth number on they are differences to the last but one.

    Returns:
        None if it ends within a number or has characters that cannot be meant.
    """
    codes = np.frombuffer(text.encode(errors='replace'), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    last = (codes & 32) == 0
    number = np.concatenate([[0], np.cumsum(last)[:-1]])
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    digit = np.arange(len(codes)) - first[number]
    if digit.max() > 11:
        return None
    values = np.bincount(number, weights=(codes & 31) * 32.0**digit).astype(np.int64)
    negative = (codes[last] & 16) > 0
    values[negative] -= 32 ** (digit[last][negative] + 1)
    for chain_start in (1, 2):
        values[chain_start::2] = np.cumsum(values[chain_start::2])
    return values


def _coordinates(file: CocoFile, masks: list, good: np.ndarray, tally: Tally, chunk: int = 50_000) -> None:
    no_numbers, beyond, flat = [], [], []
    for start in range(0, len(good), chunk):
        positions = good[start : start + chunk]
        kept = [[part for part in masks[position] if is_polygon(part)] for position in positions.tolist()]
        lengths = np.fromiter(map(len, chain.from_iterable(kept)), np.int64)
        part_of = np.repeat(np.arange(len(positions)), [len(parts) for parts in kept])
        values = _numbers(chain.from_iterable(chain.from_iterable(kept)), int(lengths.sum()))
        points = values.reshape(-1, 2)
        owner = np.repeat(part_of, lengths // 2)
        bad = np.bincount(owner[~np.isfinite(points).all(axis=1)], minlength=len(positions)) > 0
        no_numbers += positions[bad].tolist()
        index = file.image_index[positions]
        limit = np.where(index[:, None] >= 0, file.sizes[index] + TOLERANCE, np.inf)[owner]
        with np.errstate(invalid='ignore'):
            outside = ((points > limit) | (points < -TOLERANCE)).any(axis=1)
        beyond += positions[(np.bincount(owner[outside], minlength=len(positions)) > 0) & ~bad].tolist()
        area = np.bincount(part_of, _shoelace(points, lengths // 2), len(positions))
        flat += positions[(area == 0) & ~bad].tolist()
    _leave_out(file, tally, NO_NUMBERS, no_numbers)
    file.report(tally, BEYOND, beyond)
    file.report(tally, FLAT, flat)


def _numbers(values: Iterator, count: int) -> np.ndarray:
    """float64 (count,); NaN where there is something else than a number."""
    values = list(values)
    if set(map(type, values)) <= {int, float}:
        return np.array(values, dtype=np.float64)
    return np.array([value if type(value) in (int, float) else np.nan for value in values], dtype=np.float64)


def _shoelace(points: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Area inside of each of several polygons.

    Args:
        points: (N, 2), those of all polygons one after the other.
        lengths: Points of each polygon.
    """
    if not len(points):
        return np.zeros(len(lengths))
    ends = np.cumsum(lengths)
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = ends - lengths
    # Around the first point of each: numbers that are small, and a sum that is exact for pixels.
    points = points - np.repeat(points[ends - lengths], lengths, axis=0)
    cross = points[:, 0] * points[following, 1] - points[following, 0] * points[:, 1]
    return np.abs(np.add.reduceat(cross, ends - lengths)) / 2


def area_of(mask: Any) -> float | None:
    """Pixels of a mask; None if there is none that can be read."""
    if isinstance(mask, list):
        parts = [
            np.array(part, dtype=np.float64).reshape(-1, 2) for part in mask if is_polygon(part) and _is_finite(part)
        ]
        return float(sum(_shoelace(part, np.array([len(part)])).item() for part in parts)) or None
    if isinstance(mask, dict):
        counts = mask.get('counts')
        if isinstance(counts, str):
            decoded = decode_counts(counts)
            return None if decoded is None else float(decoded[1::2].sum()) or None
        if isinstance(counts, list) and _is_finite(counts):
            return float(sum(counts[1::2])) or None
    return None


def _is_finite(values: list) -> bool:
    return all(type(value) in (int, float) for value in values) and bool(np.isfinite(values).all())
