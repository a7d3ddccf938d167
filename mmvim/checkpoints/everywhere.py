"""Our reader under mmengine's loading functions."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .read import read


def read_safely_everywhere() -> None:
    """Let mmengine read checkpoints through :func:`~mmvim.checkpoints.read.read`, for the rest of the process.

    When mmengine's own safe reading refuses a file, it reads it again and runs what it finds. Where this function has
    been called, every way of mmengine to a checkpoint ends in our reader: ``init_cfg`` of any model, ``load_from``,
    resuming, the checkpoint hook, and the inferencers of mmdet and mmseg.

    Local files and ``http(s)://`` addresses are registered as schemes of mmengine's ``CheckpointLoader``. The named
    zoos (``torchvision://``, ``openmmlab://``, ``mmcls://``) end in mmengine's function for addresses, object stores
    (``s3://``, ``petrel://``, ``pavi://``) in its function for open files; both are replaced.

    The tools call this first. ``import mmvim`` does not: it changes nothing in other people's programs.
    """
    # Not above: whoever reads a file with torch alone has no mmengine.
    from mmengine.runner import CheckpointLoader, checkpoint

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(['http://', 'https://'], load_from_http, force=True)
    checkpoint.load_from_http = load_from_http
    checkpoint._safe_torch_load = _load_file


# mmengine logs what stands behind "load_from_" in the names.
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Read a local file; see :func:`read_safely_everywhere`."""
    return read(filename, map_location or 'cpu')


def load_from_http(filename: str, map_location: Any = None, **_: Any) -> dict:
    """Read an address; see :func:`read_safely_everywhere`."""
    return read(filename, map_location or 'cpu')


def _load_file(file: Any, map_location: Any = None, weights_only: bool | None = None) -> dict:
    """Read a path, or the bytes that mmengine got from an object store."""
    if isinstance(file, (str, os.PathLike)):
        return read(file, map_location or 'cpu')
    with TemporaryDirectory() as folder:
        path = Path(folder, 'checkpoint.pth')
        path.write_bytes(file.read())
        return read(path, map_location or 'cpu')
