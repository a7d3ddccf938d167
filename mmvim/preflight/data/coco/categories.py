"""Categories of a file against the classes of a config: mmdet numbers classes in the order of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..tally import Kind, Severity, Tally
from .file import CocoFile

UNKNOWN = Kind(
    Severity.LEFT_OUT, 'annotations of a category that is not in the file', 'add the category, or correct category_id.'
)
AS_TEXT = Kind(
    Severity.ERROR,
    'annotation files that give category_id as text',
    'write numbers, as categories have them: 7, not "7".',
)
NO_CATEGORY_AT_ALL = Kind(
    Severity.ERROR,
    'annotation files whose annotations all belong to categories that are not in the file',
    'make category_id the id of an entry of categories.',
)
SAME_ID = Kind(Severity.ERROR, 'category ids that several categories have', 'give each category its own id.')
SAME_NAME = Kind(
    Severity.ERROR, 'category names that several categories have', 'join them under one id: classes are told by name.'
)
NO_SUCH_CLASS = 'classes of the config that are not in the file'
OTHER_ORDER = 'classes of the config in another order than in the file, so that every one gets a wrong name'
NOT_LISTED = Kind(
    Severity.NOTE,
    'annotations of categories that are not among the classes of the config',
    'nothing, if that is meant.',
)
ONE_TEXT = 'classes that are one text instead of several names'
NONE_OF_THEM = Kind(
    Severity.ERROR,
    'annotation files without annotations of the classes of the config',
    'correct metainfo.classes, or take another annotation file.',
)


def check_categories(file: CocoFile, tally: Tally) -> None:
    """Check that categories are told apart, and that annotations belong to one."""
    for key, kind in (('id', SAME_ID), ('name', SAME_NAME)):
        for value, count in Counter(str(category[key]) for category in file.categories).items():
            if count > 1:
                tally.add(kind, f'{file.path}: {key} {value}')
    unknown = np.flatnonzero(file.category_index < 0)
    if not len(unknown):
        return
    known = {str(category['id']) for category in file.categories}
    values = [file.annotations[position]['category_id'] for position in unknown]
    as_text = [value for value in values if isinstance(value, str) and value in known]
    listed = f'categories have {", ".join(repr(category["id"]) for category in file.categories[:10])}'
    if as_text:
        tally.add(AS_TEXT, f'{file.path}: category_id {as_text[0]!r}, {listed}', len(as_text))
    elif len(unknown) == len(file.annotations):
        tally.add(NO_CATEGORY_AT_ALL, f'{file.path}: category_id {values[0]!r}, {listed}')
    else:
        file.report(tally, UNKNOWN, unknown, lambda at: f'category_id {file.annotations[at]["category_id"]!r}')
        file.skipped[unknown] = True


def check_classes(file: CocoFile, classes: Sequence[str] | None, tally: Tally, stage: str) -> None:
    """Compare the classes of a data set with the categories of its file.

    Args:
        file: The annotations.
        classes: ``metainfo['classes']`` of the data set.
        tally: Takes the faults.
        stage: Names the data set.
    """
    if classes is None:
        return
    names = [str(category['name']) for category in file.categories]
    in_file = f'the file has {_tuple(names)}'
    if isinstance(classes, str):
        kind = Kind(Severity.ERROR, ONE_TEXT, f'write metainfo=dict(classes=({classes!r},)), with the comma.')
        tally.add(kind, f'{stage}: {classes!r}; {in_file}')
        return
    missing = [name for name in classes if name not in names]
    if missing:
        listed = f'{stage}: {", ".join(map(repr, missing[:20]))}; the config has {_tuple(classes)}; {in_file}'
        wanted = [name for name in names if name in classes] if len(missing) < len(classes) else names
        # Names that differ in case or blanks only are those of the file.
        loose = {_loosely(name): name for name in names}
        if all(name in names or _loosely(name) in loose for name in classes):
            wanted = [name for name in names if _loosely(name) in {_loosely(other) for other in classes}]
        line = f'metainfo=dict(classes={_tuple(wanted, None)})'
        kind = Kind(Severity.ERROR, NO_SUCH_CLASS, f'write {line}, or add the categories to the file.')
        tally.add(kind, listed, len(missing))
        return
    order = [name for name in names if name in classes]
    if order != list(classes) and len(set(names)) == len(names):
        remedy = f'write metainfo=dict(classes={_tuple(order, None)}), and a palette in that order.'
        if len(set(classes)) < len(classes):
            remedy = f'write each name once: metainfo=dict(classes={_tuple(order, None)}).'
        kind = Kind(Severity.ERROR, OTHER_ORDER, remedy)
        tally.add(kind, f'{stage}: the config has {_tuple(classes)}; {in_file}')
        return
    counts = np.bincount(file.category_index[file.category_index >= 0], minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        if count and name not in classes:
            tally.add(NOT_LISTED, f'{stage}: {count} of {name}', count)
    listed = sum(count for name, count in zip(names, counts.tolist(), strict=True) if name in classes)
    if stage == 'train' and file.annotations and not listed:
        tally.add(NONE_OF_THEM, file.path)


def _tuple(names: Sequence[str], most: int | None = 12) -> str:
    """Names as a config has them; no more than ``most``."""
    if most is not None and len(names) > most:
        return f'({", ".join(map(repr, names[:most]))}, ... {len(names)} in all)'
    return repr(tuple(names))


def _loosely(name: str) -> str:
    return ''.join(name.lower().replace('_', ' ').replace('-', ' ').split())
