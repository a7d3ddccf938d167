"""From a model with its weights to a file, its description, and the proof that both compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mmvim.checkpoints import Report, load_model, read
from mmvim.errors import UserValueError
from mmvim.inference.inferencer import dataset_meta
from mmvim.miniature.scenes import SMALLEST_SIDE, render_scene
from mmvim.models.build import build_untrained

from . import description
from .graph import MULTIPLE, Classifier, Maps, Segmentor, Size, part_of, trace
from .onnx import write_onnx, write_openvino
from .pt2 import write_aoti, write_exported

#: By the word for each: the ending of its files.
FORMATS = {'onnx': '.onnx', 'openvino': '.xml', 'aoti': '.aoti.pt2', 'exported': '.pt2'}


class Weights(NamedTuple):
    """How weights are stored: fp32, fp16 where there are many, or int8 in linear layers."""

    half: bool = False
    int8: bool = False

    @property
    def name(self) -> str:
        return 'int8' if self.int8 else 'float16' if self.half else 'float32'


@dataclass
class Model:
    """What is exported.

    Attributes:
        name: Of the model; the files are called after it.
        cfg: Its config.
        module: What of it is exported, with its weights.
        meta: Names and colours of its classes, where it has some.
        report: What became of the weights.
    """

    name: str
    cfg: Config
    module: Segmentor | Classifier | Maps
    meta: dict[str, list] | None
    report: Report

    @classmethod
    def load(cls, cfg: Config, weights: str, name: str, part: str = 'model') -> Model:
        """A model with weights that fit.

        Args:
            cfg: Of the model.
            weights: As for :func:`mmvim.checkpoints.read`.
            name: For the files.
            part: As for :func:`.graph.part_of`.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: As ``read``, ``load_model`` and ``part_of``.
        """
        model = build_untrained(cfg.model, cfg.get('default_scope'))
        module = part_of(model, part)
        checkpoint = read(weights)
        report = load_model(model, checkpoint, weights)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            meta = dataset_meta(model, checkpoint, cfg) if isinstance(module, Segmentor) else None
        return cls(name if part == 'model' else f'{name}_{part}', cfg, module, meta, report)

    def image(self, size: Size, seed: int = 0) -> Tensor:
        """A drawn scene of a size (height, width), normalised as the model's images are, (1, 3, H, W)."""
        sides = [max(side, SMALLEST_SIDE) for side in size]
        pixels = render_scene(np.random.default_rng(seed), *sides).image[: size[0], : size[1]]
        image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
        preprocessor = self.cfg.model.get('data_preprocessor') or {}
        mean, std = (
            torch.tensor(preprocessor.get(key, [value])).view(-1, 1, 1) for key, value in (('mean', 0.0), ('std', 1.0))
        )
        flip = preprocessor.get('bgr_to_rgb') or self.module.task == 'classification'
        return (((image if flip else image.flip(0)) - mean) / std)[None]


def default_form(model: Model, to: str, sizes: tuple[Size, Size] | None) -> str:
    """The form of the recurrence that is best for a model; see docs/deploy.md for times."""
    if to == 'openvino':
        return 'plain'
    states = max((weight.shape[-1] for name, weight in model.module.named_parameters() if 'A_log' in name), default=1)
    if states > 1:
        return 'linear_attention'
    return 'plain' if sizes is None else 'scan'


def check_sizes(to: str, form: str, size: Size, sizes: tuple[Size, Size] | None) -> None:
    """See that images have a size that gives maps, and that a form can leave it open.

    Raises:
        ValueError: If it cannot, or the sizes are too small or none that an open size can have.
    """
    if min(size) < MULTIPLE:
        raise UserValueError(f'{size[0]}x{size[1]} is below {MULTIPLE}x{MULTIPLE}, one patch of the last map')
    if sizes is None:
        return
    if to == 'openvino' or form == 'plain':
        raise UserValueError(
            f'--scan {form}{" of OpenVINO" if to == "openvino" else ""} fixes the number of steps: give --size HxW, '
            'or export to onnx with --scan scan or linear_attention'
        )
    for size in sizes:
        if any(side % MULTIPLE for side in size):
            raise UserValueError(f'{size[0]}x{size[1]}: sides of open size are multiples of {MULTIPLE}')
    if not all(low < high for low, high in zip(*sizes, strict=True)):
        raise UserValueError(
            f'--min-size {sizes[0][0]}x{sizes[0][1]} is not below --max-size {sizes[1][0]}x{sizes[1][1]} both ways: '
            'give --size for one size'
        )


def export(
    model: Model, to: str, out: Path, size: Size, sizes: tuple[Size, Size] | None, form: str, weights: Weights
) -> Path:
    """Write a file and its description.

    Args:
        model: With its weights.
        to: A key of :data:`FORMATS`.
        out: The folder; it exists.
        size: The image's.
        sizes: The smallest and largest that the file shall take, ``size`` between them; by default that alone.
        form: Of the recurrence in ONNX and OpenVINO.
        weights: How they are stored.

    Returns:
        The path of the file.

    Raises:
        ValueError: If the model takes no image of that size.
    """
    path = out / f'{model.name}{FORMATS[to]}'
    image = model.image(size)
    with torch.no_grad():
        model.module(image)  # says what is wrong with a size in its own words
    program = trace(model.module, image, sizes)
    about: dict[str, Any] = {'format': to, 'weights': weights.name}
    if to in ('onnx', 'openvino'):
        about['scan'] = form
    about |= (
        {'size': list(size)}
        if sizes is None
        else {'sizes': {'smallest': list(sizes[0]), 'largest': list(sizes[1]), 'multiple_of': MULTIPLE}}
    )
    known = description.describe(model.cfg, model.name, model.module.task, model.module.outputs, model.meta, **about)
    if to == 'exported':
        write_exported(program, path)
    elif to == 'aoti':
        write_aoti(program, path, known)
    elif to == 'onnx':
        write_onnx(program, model.module.outputs, path, form, weights.half, weights.int8)
    else:
        write_openvino(program, model.module.outputs, path, form, weights.half, weights.int8)
    description.write(known, path)
    return path
