"""An annotation file, read once, as lists and as columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmvim.machine import no_garbage_collection

from ..tally import NAMED, Kind, Severity, Tally

KEYS = ('images', 'annotations', 'categories')
FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'categories': ('id', 'name'),
    'annotations': ('image_id', 'category_id'),
}
_LVIS_ADDRESS = 'http://images.cocodataset.org/'

UNREADABLE = Kind(
    Severity.ERROR, 'annotation files that are no JSON', 'export or copy the file again: it is damaged, or another one.'
)
CUT_OFF = Kind(Severity.ERROR, 'annotation files that end too early', 'copy or download the file again.')
NO_KEYS = Kind(
    Severity.ERROR,
    'annotation files without the lists of COCO',
    'COCO has {"images": [...], "annotations": [...], "categories": [...]}; export in that format.',
)
BYTE_ORDER_MARK = Kind(
    Severity.NOTE, 'annotation files that begin with a byte order mark', 'export as plain UTF-8; training reads a copy.'
)
INCOMPLETE = Kind(
    Severity.ERROR, 'entries that lack what COCO always has', 'add it; export again if all entries lack it.'
)
UNLABELLED = Kind(Severity.ERROR, 'annotation files without any annotation', 'export again, with the labels.')
UNLABELLED_TEST = Kind(
    Severity.WARNING,
    'test sets without labels',
    'nothing can be measured on them; format_only=True of CocoMetric writes predictions.',
)


@dataclass
class CocoFile:
    """The content of an annotation file whose entries have what they need.

    Attributes:
        path: The file.
        data: Everything in it.
        image_index: Position of each annotation's image, int64 (N,); -1 where there is none of that id.
        category_index: Position of each annotation's category, int64 (N,); -1 where there is none.
        boxes: float64 (N, 4), as x, y, width, height; NaN where there is no box.
        sizes: float64 (images, 2), width and height.
        left_out: bool (N,), annotations that a mended copy lacks.
        skipped: bool (N,), annotations that mmdet itself leaves out.
        changes: What a mended copy has instead, ``{position: {key: value}}``.
        marked: Whether it begins with a byte order mark, at which pycocotools stops.
    """

    path: str
    data: dict[str, Any]
    image_index: np.ndarray
    category_index: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray
    left_out: np.ndarray
    skipped: np.ndarray
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    marked: bool = False

    @property
    def images(self) -> list[dict]:
        return self.data['images']

    @property
    def annotations(self) -> list[dict]:
        return self.data['annotations']

    @property
    def categories(self) -> list[dict]:
        return self.data['categories']

    @property
    def is_whole(self) -> bool:
        """Whether it can be used as it is."""
        return not (self.marked or self.changes or self.left_out.any())

    @property
    def used(self) -> np.ndarray:
        """bool (N,), annotations that training sees."""
        return ~(self.left_out | self.skipped)

    def place(self, position: int) -> str:
        """Where an annotation is, for people."""
        entry = self.annotations[position]
        index = self.image_index[position]
        image = f'image {entry["image_id"]}' + (f' ({self.images[index]["file_name"]})' if index >= 0 else '')
        return f'{self.path}: {image}, annotation {entry.get("id", f"number {position}")}'

    def report(self, tally: Tally, kind: Kind, positions: Iterable[int], say: Any = None) -> None:
        """Count annotations with a fault; ``say(position)`` is added to the places."""
        positions = np.asarray(positions)
        for position in positions[:NAMED].tolist():
            tally.add(kind, self.place(position) + (f': {say(position)}' if say else ''))
        if len(positions) > NAMED:
            tally.add(kind, self.path, len(positions) - NAMED)

    def change(self, position: int, **values: Any) -> None:
        """Give an annotation other values in a mended copy."""
        self.changes.setdefault(int(position), {}).update(values)


def read_coco(path: str, tally: Tally, stage: str = 'train') -> CocoFile | None:
    """Read an annotation file.

    Args:
        path: The file.
        tally: Takes what is wrong with it as a whole.
        stage: ``'test'`` may do without annotations.

    Returns:
        None if it cannot be used at all.
    """
    with no_garbage_collection():
        data, marked = _parse(path, tally)
        if data is None or not _is_coco(path, data, tally, stage):
            return None
        return _columns(path, data, marked)


def _parse(path: str, tally: Tally) -> tuple[Any, bool]:
    try:
        text = Path(path).read_bytes().decode()
        marked = text.startswith('\ufeff')
        if marked:
            tally.add(BYTE_ORDER_MARK, path)
            text = text[1:]
        return json.loads(text), marked
    except OSError as error:
        tally.add(UNREADABLE, f'{path}: {error.strerror}')
    except UnicodeDecodeError:
        tally.add(UNREADABLE, f'{path}: not UTF-8')
    except RecursionError:
        tally.add(UNREADABLE, f'{path}: nested too deeply')
    except ValueError as error:
        lineno, column, at = (getattr(error, name, 0) for name in ('lineno', 'colno', 'pos'))
        ends = len(text.rstrip()) - at <= 1 or 'Unterminated string' in str(error)
        if not text.strip():
            tally.add(UNREADABLE, f'{path}: empty')
        elif ends and text.lstrip()[:1] in '{[':
            tally.add(CUT_OFF, f'{path}: ends in line {lineno}, column {column}, in the middle of the data')
        else:
            tally.add(UNREADABLE, f'{path}: line {lineno}, column {column}: {getattr(error, "msg", error)}')
    return None, False


def _is_coco(path: str, data: Any, tally: Tally, stage: str) -> bool:
    if not isinstance(data, dict):
        tally.add(NO_KEYS, f'{path}: a {type(data).__name__} at the top instead of an object')
        return False
    if stage == 'test' and 'annotations' not in data:
        data['annotations'] = []
    missing = [key for key in KEYS if not isinstance(data.get(key), list)]
    if missing:
        has = ', '.join(list(map(str, data))[:8]) or 'nothing'
        tally.add(NO_KEYS, f'{path}: no list {" and no list ".join(missing)}; it has {has}')
        return False
    for entry in data['images']:
        if isinstance(entry, dict) and isinstance(entry.get('coco_url'), str):
            # LVIS names images by their address alone.
            entry.setdefault('file_name', entry['coco_url'].removeprefix(_LVIS_ADDRESS))
    faulty = Tally()
    for key, needed in FIELDS.items():
        for position, entry in enumerate(data[key]):
            if not isinstance(entry, dict):
                faulty.add(INCOMPLETE, f'{path}: {key}[{position}] is no object')
            elif not all(name in entry for name in needed):
                lacks = ', '.join(name for name in needed if name not in entry)
                faulty.add(INCOMPLETE, f'{path}: {key}[{position}] (id {entry.get("id")}) has no {lacks}')
    for position, entry in enumerate(data['images']):
        if isinstance(entry, dict) and not all(_is_length(entry.get(key, 1)) for key in ('height', 'width')):
            size = f'height {entry["height"]!r}, width {entry["width"]!r}'
            faulty.add(INCOMPLETE, f'{path}: images[{position}] (id {entry.get("id")}) has {size}')
    tally.merge(faulty)
    if not data['images']:
        tally.add(NO_KEYS, f'{path}: images is empty')
    elif not data['annotations']:
        tally.add(UNLABELLED_TEST if stage == 'test' else UNLABELLED, path)
    return not faulty.fails_check and bool(data['images'])


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _columns(path: str, data: dict, marked: bool) -> CocoFile:
    annotations = data['annotations']
    return CocoFile(
        path=path,
        data=data,
        image_index=_positions(annotations, 'image_id', data['images']),
        category_index=_positions(annotations, 'category_id', data['categories']),
        boxes=_boxes(annotations),
        sizes=np.array([(image['width'], image['height']) for image in data['images']], dtype=np.float64),
        left_out=np.zeros(len(annotations), dtype=bool),
        skipped=np.zeros(len(annotations), dtype=bool),
        marked=marked,
    )


def _positions(annotations: list[dict], key: str, of: list[dict]) -> np.ndarray:
    """Where in a list the entries are that annotations refer to; -1 where there is none."""
    known = {entry['id']: position for position, entry in enumerate(of) if _is_key(entry['id'])}
    try:
        found = (known.get(annotation[key], -1) for annotation in annotations)
        return np.fromiter(found, dtype=np.int64, count=len(annotations))
    except TypeError:  # a list or an object for an id
        values = (annotation[key] for annotation in annotations)
        return np.array([known.get(value, -1) if _is_key(value) else -1 for value in values], dtype=np.int64)


def _is_key(value: Any) -> bool:
    return isinstance(value, (int, float, str))


def _boxes(annotations: list[dict]) -> np.ndarray:
    if not annotations:
        return np.zeros((0, 4))
    try:
        boxes = np.array([annotation['bbox'] for annotation in annotations])
        if boxes.shape == (len(annotations), 4) and boxes.dtype.kind in 'if':
            return boxes.astype(np.float64)
    except (KeyError, ValueError):
        pass
    return np.array([_box(annotation.get('bbox')) for annotation in annotations], dtype=np.float64)


def _box(value: Any) -> list[float]:
    if isinstance(value, list) and len(value) == 4 and all(is_number(entry) for entry in value):
        return value
    return [math.nan] * 4


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
