"""An image as a model gets it, and the way back from its maps to pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import Tensor, nn

from mmvim.datasets.imagenet import LoadForClassifier
from mmvim.errors import UserValueError


@dataclass
class View:
    """What a model sees of an image.

    Attributes:
        inputs: (1, 3, H, W), normalised, padded at the right and the bottom.
        samples: The data sample of the image, as the model's ``predict`` takes it.
        picture: (h, w, 3) uint8, RGB: the same without padding and normalisation.
        scale: Pixels of ``picture`` to a pixel of the image, downwards and to the right.
        corner: Row and column, in pixels of the resized image, of the upper left corner of ``picture``.
    """

    inputs: Tensor
    samples: list
    picture: np.ndarray
    scale: tuple[float, float]
    corner: tuple[int, int] = (0, 0)

    def place(self, at: tuple[float, float]) -> tuple[int, int]:
        """A pixel (row, column) of the image as one of ``picture``.

        Raises:
            ValueError: If the model does not see it.
        """
        row, column = (
            math.floor((pixel + 0.5) * factor - start)
            for pixel, factor, start in zip(at, self.scale, self.corner, strict=True)
        )
        height, width = self.picture.shape[:2]
        if not (0 <= row < height and 0 <= column < width):
            rows, columns = (
                (math.ceil(start / factor), int((start + side) / factor) - 1)
                for factor, start, side in zip(self.scale, self.corner, (height, width), strict=True)
            )
            raise UserValueError(
                f'row {at[0]:g}, column {at[1]:g} is outside of what the model sees of this image: rows {rows[0]} to '
                f'{rows[1]}, columns {columns[0]} to {columns[1]}'
            )
        return row, column

    def fraction(self, at: tuple[float, float]) -> tuple[float, float]:
        """A pixel (row, column) of the image as parts of height and width of ``inputs``."""
        row, column = self.place(at)
        return (row + 0.5) / self.inputs.shape[2], (column + 0.5) / self.inputs.shape[3]

    def fitted(self, values: np.ndarray) -> np.ndarray:
        """A map (h', w') over ``inputs`` as one over ``picture``, enlarged linearly."""
        large = F.interpolate(
            torch.from_numpy(values)[None, None].float(), self.inputs.shape[2:], mode='bilinear', align_corners=False
        )
        height, width = self.picture.shape[:2]
        return large[0, 0, :height, :width].numpy()


def see(model: nn.Module, pipeline: Callable[[Any], dict], image: np.ndarray) -> View:
    """Put an image through a model's test pipeline and normalisation.

    Args:
        model: A detector or segmentor of mmdet or mmseg, or an ``mmvim.ImageClassifier``.
        pipeline: ``.pipeline`` of an inferencer; for a classifier its ``LoadForClassifier``.
        image: (H, W, 3) uint8, BGR.

    Raises:
        ValueError: If the image becomes less than a pixel wide.
    """
    height, width = image.shape[:2]
    corner = (0, 0)
    if isinstance(pipeline, LoadForClassifier):
        size, left, top = pipeline.window(width, height)
        picture = np.array(pipeline.cut(Image.fromarray(image[..., ::-1])))
        sample = {'inputs': torch.from_numpy(picture).permute(2, 0, 1).contiguous()}
        scale, corner = (size[1] / height, size[0] / width), (top, left)
    else:
        try:
            sample = pipeline(image)
        except cv2.error as error:
            raise UserValueError(f'{width} x {height} pixels are too narrow for the test pipeline') from error
        picture = np.ascontiguousarray(sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1])
        scale = (picture.shape[0] / height, picture.shape[1] / width)
    data = model.data_preprocessor(pseudo_collate([sample]), False)
    return View(data['inputs'], data.get('data_samples', []), picture, scale, corner)
