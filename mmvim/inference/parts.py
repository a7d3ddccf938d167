"""The finished rows of a label map, kept until the whole is done."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.infer import BaseInferencer

from mmvim.errors import UserFileExistsError, UserOSError, UserValueError
from mmvim.files import replacing, write_whole

from .runtimes import is_exported

_PLAN = 'plan.json'


class Parts:
    """A folder with one file for each band of rows, each there whole or not at all.

    Args:
        folder: is made if need be.
        count: how many bands there will be.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count

    def begin(self, plan: Mapping[str, Any], resume: bool) -> None:
        """Make the folder, or go on with the one that is there.

        Args:
            plan: all that the labels depend on.
            resume: whether an earlier run may be gone on with.

        Raises:
            FileExistsError: if there are bands of an earlier run and it may not.
            ValueError: if that run had another plan.
        """
        done = self.count - len(self.missing())
        wanted = json.loads(json.dumps(plan))
        if done:
            earlier = json.loads((self.folder / _PLAN).read_text())
            changed = [key for key in wanted if wanted[key] != earlier.get(key)]
            if changed:
                raise UserValueError(
                    f'{self.folder} is of a run with another {", another ".join(changed)}: give the same as then, or '
                    'delete that folder'
                )
            if not resume:
                raise UserFileExistsError(
                    f'{self.folder} keeps {self.describe()} of an earlier run: go on with --resume, or delete that '
                    'folder'
                )
            return
        write_whole(self.folder / _PLAN, json.dumps(wanted, indent=1))

    def missing(self) -> list[int]:
        """Which bands are not there."""
        return [index for index in range(self.count) if not self._path(index).exists()]

    def describe(self) -> str:
        """How much there is, in words."""
        return f'{self.count - len(self.missing())} of {self.count} rows of windows'

    def write(self, index: int, labels: np.ndarray, picture: np.ndarray) -> None:
        """Keep a band.

        Args:
            index: its number.
            labels: (rows, W).
            picture: (h, w, channels), of which the small picture is put together.

        Raises:
            OSError: if there is no room.
        """
        try:
            with replacing(self._path(index)) as draft:
                np.savez(draft, labels=labels, picture=picture)
        except OSError as error:
            raise UserOSError(f'{self.folder} cannot be written ({error.strerror or error}): make room') from error

    def read(self, kind: str) -> Iterator[np.ndarray]:
        """All bands from top to bottom, of ``'labels'`` or ``'picture'``.

        Raises:
            ValueError: if one is damaged; it is taken away, to be made again.
        """
        for index in range(self.count):
            path = self._path(index)
            try:
                with np.load(path) as band:
                    yield band[kind]
            except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
                path.unlink()
                raise UserValueError(f'{path} was damaged and is deleted: run again with --resume') from error

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f'{index:06}.npz'


def plan_of(inferencer: BaseInferencer, source: Path, **options: Any) -> dict[str, Any]:
    """What the labels of an image depend on: the file, the weights, the config and the options."""
    if is_exported(inferencer.weights):
        exported = Path(inferencer.weights)
        weights = [_stamp(path) for path in sorted(exported.parent.glob(f'{exported.stem}.*'))]
    else:
        digest = hashlib.sha256()
        for name, value in inferencer.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        weights = digest.hexdigest()
    config = hashlib.sha256(str(inferencer.model.cfg.model).encode()).hexdigest()
    return {'image': _stamp(source), 'weights': weights, 'config': config, **options}


def _stamp(path: Path) -> list:
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]
