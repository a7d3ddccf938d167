"""What a backbone in masked pretraining makes of images that it sees in part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmvim.checkpoints import load_model, read
from mmvim.errors import UserValueError
from mmvim.models.pretraining import SimMIM
from mmvim.registry import MODELS

_HIDDEN = 128  # grey, for what the model does not see


class Reconstruction(NamedTuple):
    """Three pictures (H, W, 3) uint8, RGB: the image, what was seen of it, and that with the rest reconstructed."""

    image: np.ndarray
    seen: np.ndarray
    reconstructed: np.ndarray


def load_simmim(config: Config, checkpoint: str | Path) -> SimMIM:
    """The model of a config of ``configs/pretrain`` with the weights of a checkpoint, in evaluation mode.

    Raises:
        ValueError: If the config is for something else.
        FileNotFoundError, ValueError, RuntimeError: As ``read`` and ``load_model``, if the weights do not fit.
    """
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmvim')):
        model = MODELS.build(config.model)
    if not isinstance(model, SimMIM):
        raise UserValueError(
            f'{config.filename} builds a {type(model).__name__}, which reconstructs nothing: expected a config of '
            'mmvim.SimMIM, such as those in configs/pretrain'
        )
    load_model(model, read(checkpoint), Path(checkpoint).name)
    return model.eval()


@torch.no_grad()
def reconstruct(model: SimMIM, images: Iterable[np.ndarray], seed: int = 0) -> list[Reconstruction]:
    """Hide parts of images and have them filled in.

    Args:
        model: In evaluation mode.
        images: (H, W, 3) uint8, BGR, of any sizes.
        seed: Of the masks; the same ones every time.

    Returns:
        One for each image, cut to the pixels that the model has an output for.

    Raises:
        ValueError: If an image is smaller than a hidden square.
    """
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for image in images:
            inputs = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))]
            pixels = model.data_preprocessor({'inputs': inputs}, False)['inputs']
            predicted, masks = model(pixels, mode='tensor')
            mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
            colours = (predicted[0].float() * std + mean).clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
            hidden = masks[0].numpy()[..., None]
            whole = image[: hidden.shape[0], : hidden.shape[1], ::-1]
            seen = np.where(hidden, np.uint8(_HIDDEN), whole)
            found.append(Reconstruction(whole, seen, np.where(hidden, colours, whole)))
    return found


def read_images(paths: Sequence[Path], count: int, size: int | None = None) -> list[np.ndarray]:
    """The first images (H, W, 3) uint8, BGR, of files and folders; their shorter side ``size`` pixels, if given.

    Raises:
        ValueError: If a file is no image, or there is none.
    """
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])][:count]
    images = []
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise UserValueError(f'{file} is no image that OpenCV reads')
        factor = size / min(image.shape[:2]) if size else 1
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        images.append(image if factor == 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=how))
    if not images:
        raise UserValueError(f'{", ".join(map(str, paths))}: no images')
    return images


def draw(reconstructions: Sequence[Reconstruction]) -> Figure:
    """A row for each image: whole, what the model saw of it, and what it made of that."""
    figure = Figure(figsize=(7.2, 2.4 * len(reconstructions) + 0.4), layout='constrained')
    grid = figure.subplots(len(reconstructions), 3, squeeze=False)
    for line, reconstruction in zip(grid, reconstructions, strict=True):
        for axis, picture in zip(line, reconstruction, strict=True):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(grid[0], ('image', 'what the model sees', 'reconstruction'), strict=True):
        axis.set_title(title)
    return figure
