"""What a program without mmvim has to know of an exported file: a JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmvim.files import write_whole
from mmvim.inference.runtimes import description_of
from mmvim.version import __version__


def describe(
    cfg: Config, name: str, task: str, outputs: tuple[str, ...], meta: Mapping[str, list] | None, **how: Any
) -> dict[str, Any]:
    """The description of a file.

    Args:
        cfg: Of the model.
        name: Of the model.
        task: ``'segmentation'``, ``'classification'`` or ``'maps'``.
        outputs: Their names, in order.
        meta: ``classes``, and ``palette`` for a segmentor; None for maps.
        how: ``format``, ``size`` or ``sizes``, ``scan``, ``weights``: how the file was made.
    """
    preprocessor = cfg.model.get('data_preprocessor') or {}
    # OpenMMLab reads BGR, and has the preprocessor turn channels around; our classifiers' images are read as RGB.
    channels = 'RGB' if preprocessor.get('bgr_to_rgb') or task == 'classification' else 'BGR'
    size = {key: how.pop(key) for key in ('size', 'sizes') if key in how}
    return {
        'model': name,
        'task': task,
        **how,
        'input': {
            'name': 'image',
            'layout': 'batch of 1, channels, height, width',
            'dtype': 'float32',
            'channels': channels,
            'mean': list(preprocessor.get('mean', (0, 0, 0))),
            'std': list(preprocessor.get('std', (1, 1, 1))),
            **size,
        },
        'outputs': list(outputs),
        **(meta or {}),
        'mmvim': __version__,
        'torch': torch.__version__,
        'config': repr(cfg.to_dict()),  # JSON has no tuples, which pipelines ask for
    }


def write(description: Mapping[str, Any], exported: Path) -> Path:
    """Write it beside an exported file; returns its path."""
    path = description_of(exported)
    write_whole(path, json.dumps(description, indent=1))
    return path
