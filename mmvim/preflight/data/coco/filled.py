"""What the format means where ``iscrowd`` or ``area`` is missing: not a crowd, and the size of the object."""

from __future__ import annotations

import math

from ..tally import Kind, Severity, Tally
from .file import CocoFile, is_number
from .masks import area_of

IN_COPY = 'nothing; training reads a copy in which they are filled in.'
NO_CROWD = Kind(Severity.NOTE, 'annotations without iscrowd, which is taken as 0', IN_COPY)
NO_AREA = Kind(
    Severity.NOTE, 'annotations without an area, which is taken from the mask, or else from the box', IN_COPY
)
STRANGE_CROWD = Kind(
    Severity.WARNING, 'iscrowd that is neither 0 nor 1', 'write 0, or 1 for a region of many objects; read as 0 or 1.'
)
IGNORED = Kind(Severity.NOTE, 'annotations marked with ignore, which mmdet leaves out', 'nothing, if that is meant.')


def check_filled(file: CocoFile, tally: Tally) -> None:
    """Fill in ``iscrowd`` and ``area`` where they are missing or cannot be meant, and say how many."""
    annotations = file.annotations
    without = [position for position, entry in enumerate(annotations) if entry.get('iscrowd') is None]
    strange = [position for position, entry in enumerate(annotations) if entry.get('iscrowd', 0) not in (0, 1, None)]
    file.report(tally, NO_CROWD, without)
    file.report(tally, STRANGE_CROWD, strange, lambda at: repr(annotations[at]['iscrowd']))
    for position in without:
        file.change(position, iscrowd=0)
    for position in strange:
        file.change(position, iscrowd=int(str(annotations[position]['iscrowd']).lower() in ('1', 'true', 'yes')))
    no_area = [position for position, entry in enumerate(annotations) if not _is_area(entry.get('area'))]
    usable = [at for at in no_area if file.boxes[at, 2:].min() > 0]  # what has no box is left out
    file.report(tally, NO_AREA, usable)
    for position in usable:
        width, height = file.boxes[position, 2:].tolist()
        file.change(position, area=area_of(annotations[position].get('segmentation')) or width * height)
    for position in set(no_area) - set(usable):
        if 'area' not in annotations[position]:
            file.change(position, area=0)
    file.report(tally, IGNORED, [position for position, entry in enumerate(annotations) if entry.get('ignore')])


def _is_area(value: object) -> bool:
    return is_number(value) and math.isfinite(value) and value > 0
