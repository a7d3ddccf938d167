"""Ids of annotations and images: that each is there once, and that what refers to one finds it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..tally import Kind, Severity, Tally
from .file import CocoFile

NO_IMAGE = Kind(
    Severity.LEFT_OUT, 'annotations of images that are not in the file', 'add the images, or take the annotations out.'
)
NO_IMAGE_AT_ALL = Kind(
    Severity.ERROR,
    'annotation files whose annotations all belong to images that are not in the file',
    'make image_id the id of an entry of images, a number in both.',
)
SAME_IMAGE_ID = Kind(
    Severity.ERROR,
    'image ids that several images have',
    'give each image its own id: all but the last of them are lost, and their annotations go to that one.',
)
SAME_FILE = Kind(Severity.WARNING, 'image files that are listed more than once', 'list each file once.')
NUMBERED = Kind(
    Severity.NOTE,
    'annotations without an id, or with id 0, that are numbered',
    'nothing; ids count from 1 (0 is "none").',
)
SAME_ID = Kind(
    Severity.WARNING, 'ids that several annotations have', 'give each its own; training numbers all of them anew.'
)
TWICE = Kind(
    Severity.WARNING,
    'annotations that are there more than once (same image, category and box)',
    'take the copies out: each counts as an object of its own.',
)


def check_ids(file: CocoFile, tally: Tally) -> None:
    """Check ids and what refers to them; those of annotations are numbered anew where they cannot be used."""
    _images(file, tally)
    lost = np.flatnonzero(file.image_index < 0)
    if len(lost) and len(lost) == len(file.annotations):
        wanted, there = file.annotations[0]['image_id'], file.images[0]['id']
        tally.add(NO_IMAGE_AT_ALL, f'{file.path}: image_id {wanted!r}, while images have ids such as {there!r}')
    else:
        file.report(tally, NO_IMAGE, lost)
        file.skipped[lost] = True
    _annotations(file, tally)
    _copies(file, tally)


def _images(file: CocoFile, tally: Tally) -> None:
    for value in _repeated([str(image['id']) for image in file.images]):
        tally.add(SAME_IMAGE_ID, f'{file.path}: image {value}')
    for value in _repeated([str(image['file_name']) for image in file.images]):
        tally.add(SAME_FILE, f'{file.path}: {value}')


def _annotations(file: CocoFile, tally: Tally) -> None:
    ids = [annotation.get('id') for annotation in file.annotations]
    useless = [position for position, value in enumerate(ids) if type(value) is not int or value == 0]
    repeated = []
    if useless or len(set(ids)) < len(ids):
        repeated = _repeated([str(value) for value in ids if type(value) is int and value != 0])
    if useless:
        file.report(tally, NUMBERED, useless)
    for value in repeated:
        tally.add(SAME_ID, f'{file.path}: annotation {value}')
    if repeated:
        for position in range(len(ids)):
            file.change(position, id=position + 1)
    elif useless:
        taken = {value for value in ids if type(value) is int}
        free = (value for value in itertools.count(1) if value not in taken)
        for position in useless:
            file.change(position, id=next(free))


def _copies(file: CocoFile, tally: Tally) -> None:
    good = np.flatnonzero(np.isfinite(file.boxes).all(axis=1) & (file.image_index >= 0))
    if len(good) < 2:
        return
    rows = np.column_stack([file.image_index[good], file.category_index[good], file.boxes[good]])
    # Equal rows have equal sums of any weights: sorting these is several times faster than sorting rows.
    order = np.argsort(rows @ np.sqrt([2, 3, 5, 7, 11, 13]), kind='stable')
    good, rows = good[order], rows[order]
    equal = (rows[1:] == rows[:-1]).all(axis=1)
    first, same = good[:-1][equal], good[1:][equal]
    # Two parts of a thing may share a box without being copies; their masks tell.
    masks = [[file.annotations[position].get('segmentation') for position in side.tolist()] for side in (first, same)]
    equal = [position for position, mine, its in zip(same.tolist(), *masks, strict=True) if mine == its]
    file.report(tally, TWICE, equal)


def _repeated(values: Sequence[str]) -> list[str]:
    if len(set(values)) == len(values):
        return []
    return [value for value, count in Counter(values).items() if count > 1]
