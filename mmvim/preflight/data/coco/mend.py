"""A copy of an annotation file with what is missing filled in, and without what cannot be trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mmvim.files import replacing
from mmvim.machine import no_garbage_collection

from .file import CocoFile

#: Raised with every change of what is mended.
RECIPE = 1


def write_mended(file: CocoFile, folder: Path) -> Path:
    """Write a mended copy, unless it is there.

    Its name follows from its content: each process of a run comes to the same one, and finds it whole.

    Args:
        file: Checked.
        folder: For the copy; made if need be.
    """
    digest = hashlib.blake2b(Path(file.path).read_bytes(), digest_size=8)
    digest.update(repr((RECIPE, file.left_out.tobytes(), sorted(file.changes.items()))).encode())
    path = folder / f'{Path(file.path).stem}-{digest.hexdigest()}.json'
    if path.is_file():
        return path
    with no_garbage_collection():
        annotations = [
            {**entry, **file.changes[position]} if position in file.changes else entry
            for position, entry in enumerate(file.annotations)
            if not file.left_out[position]
        ]
        text = json.dumps({**file.data, 'annotations': annotations})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, shared=True) as draft:
        draft.write_text(text)
    return path
