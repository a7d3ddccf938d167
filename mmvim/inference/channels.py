"""From the bands of a file to the channels that a model was trained with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from mmvim.errors import UserValueError


@dataclass(frozen=True)
class Channels:
    """Which bands a model sees, and how their numbers become those of its training.

    Without ``bands`` and ``scale`` they are brought to what mmcv reads in training: three channels of 8 bits; grey
    three times, transparency left out, of 16 bits the upper 8.

    Attributes:
        count: channels of the model.
        bands: numbers of bands, from 1, in the order of the model's channels (red, green, blue where it has three).
        scale: what becomes 0 and what becomes 255; what is outside, these.
        raw: numbers as they are in the file, float32.
    """

    count: int = 3
    bands: tuple[int, ...] | None = None
    scale: tuple[float, float] | None = None
    raw: bool = False

    def __call__(self, pixels: np.ndarray, source: str) -> np.ndarray:
        """Choose and convert: (H, W) or (H, W, bands) -> (H, W, channels), uint8 or float32; BGR where there are three.

        Args:
            pixels: of any type of number.
            source: name of the file, for errors.

        Raises:
            ValueError: if there is no such band, not as many as the model takes, or numbers that need a scale.
        """
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        chosen = self.choose(pixels.shape[-1], source)
        return self.convert(pixels[..., [band - 1 for band in chosen]], source)

    def choose(self, available: int, source: str) -> list[int]:
        """Numbers of bands, from 1, out of so many."""
        if self.bands is not None:
            if len(self.bands) != self.count:
                raise UserValueError(f'--bands names {len(self.bands)}, and the model takes {self.count}')
            if max(self.bands) > available:
                raise UserValueError(f'{source} has no band {max(self.bands)}: it has {available}')
            return list(self.bands)
        if available == self.count:
            return list(range(1, available + 1))
        if self.count != 3:
            example = ','.join(map(str, range(1, self.count + 1)))
            raise UserValueError(
                f'{source} has {available} bands, and the model takes {self.count}: name some, as in --bands {example}'
            )
        if available > 4:
            raise UserValueError(f'{source} has {available} channels: choose three of them, such as --bands 4,3,2')
        return [1, 1, 1] if available < 3 else [1, 2, 3]

    def convert(self, pixels: np.ndarray, source: str) -> np.ndarray:
        """The numbers of bands that were chosen: (H, W, channels) -> the same, uint8 or float32."""
        pixels = self._scaled(pixels, source)
        return pixels[..., ::-1] if self.count == 3 else pixels

    def _scaled(self, pixels: np.ndarray, source: str) -> np.ndarray:
        if np.iscomplexobj(pixels):
            raise UserValueError(f'{source} has complex numbers: save their magnitudes')
        if self.raw:
            return np.nan_to_num(pixels.astype(np.float32))
        if self.scale is not None:
            low, high = self.scale
            share = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
            return np.rint(np.nan_to_num(share).clip(0, 1) * 255).astype(np.uint8)
        if pixels.dtype == bool:
            return pixels * np.uint8(255)
        if pixels.dtype == np.uint16:
            return (pixels >> 8).astype(np.uint8)
        if pixels.dtype != np.uint8:
            raise UserValueError(
                f'{source} has pixels of {pixels.dtype}: say which are black and white, such as --scale 0,1'
            )
        return pixels


#: What mmcv does in training.
to_bgr = Channels()


def channels_of(model: nn.Module) -> int:
    """How many channels a segmentor takes: as many as its preprocessor has means, or else its first convolution.

    Raises:
        ValueError: if these differ.
    """
    taken = next((layer.in_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)), 3)
    means = getattr(model.data_preprocessor, 'mean', None)
    if means is not None and means.numel() not in (1, taken):
        raise UserValueError(
            f'the backbone takes {taken} channels and data_preprocessor.mean has {means.numel()}: give it one'
        )
    return taken


def to_picture(pixels: np.ndarray) -> np.ndarray:
    """Something to look at: (H, W, channels) of any model -> (H, W, 3) uint8, BGR."""
    first = pixels[..., [0, 0, 0] if pixels.shape[-1] < 3 else [0, 1, 2]]
    if pixels.shape[-1] > 3:
        first = first[..., ::-1]
    if first.dtype == np.uint8:
        return first
    low, high = np.percentile(first, (2, 98))
    return (((first - low) / max(high - low, 1e-9)).clip(0, 1) * 255).astype(np.uint8)
