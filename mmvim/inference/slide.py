"""Semantic segmentation of large images by a sliding window, as many rows at a time as the window is high."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.machine import free_memory

from .grid import Grid
from .rows import Rows
from .shares import Shares


@dataclass(frozen=True)
class Band:
    """Some rows of an image, finished.

    Attributes:
        index: the number of the band.
        top: its first row.
        labels: (rows, W) class indices, uint8 or uint16; the largest value where there was nothing to see.
        pixels: (rows, W, channels), as the model saw them.
    """

    index: int
    top: int
    labels: np.ndarray
    pixels: np.ndarray


@torch.no_grad()
def label_bands(
    model: nn.Module,
    rows: Rows,
    grid: Grid,
    span: tuple[int, int] | None = None,
    batch: int = 4,
    blend: str = 'mean',
    advance: Callable[[int], None] = lambda _: None,
    shares: Shares | None = None,
) -> Iterator[Band]:
    """Segment an image, or some bands of it, from top to bottom.

    The logits of overlapping windows are averaged. What is kept is their sum over one row of windows, fp32: classes x
    window height x image width values, whatever the height of the image. Each row of the image is read once. Windows
    that show nothing by the mask of the image are left out.

    A band has the same labels, to the bit, whether it is made with those above or by itself: then the windows above
    that reach into it are computed again, and sums are added up in the same order, from batches of the same windows.

    Args:
        model: an ``EncoderDecoder`` of mmseg, in eval mode.
        rows: the image.
        grid: the windows.
        span: numbers of bands, first and one after the last; all of them by default.
        batch: windows at a time.
        blend: how overlapping windows count: ``'mean'`` for all pixels alike, ``'gaussian'`` see :func:`weight_of`.
        advance: is told each number of windows that are done or left out.
        shares: counts the seconds of reading and of the model.

    Yields:
        The bands.

    Raises:
        ValueError: if the sums do not fit into memory.
    """
    shares = shares or Shares()
    first, last = span or (0, len(grid.tops))
    device = next(model.parameters()).device
    _check_memory(model.out_channels, grid.high, grid.width, device)
    sums = torch.zeros(model.out_channels, grid.high, grid.width, device=device)
    weights = torch.zeros(grid.high, grid.width, device=device)
    weight = weight_of(blend, grid.high, grid.wide).to(device)
    begin = grid.first_row_of_windows(first)
    view = _View(rows, shares)
    view.move(grid.tops[begin], grid.tops[begin] + grid.high)
    for index in range(begin, last):
        top, following = grid.band(index)
        done = following - top
        with shares.of('model'):
            _add_row(model, grid, view, sums, weights, weight, batch, advance)
            labels = _labels(model, sums[:, :done], weights[:done], view.mask) if index >= first else None
        if labels is not None:
            yield Band(index, top, labels, view.pixels[:done])
        if index + 1 == last:
            return
        for kept in (*sums, weights):
            kept[: grid.high - done] = kept[done:].clone()
            kept[grid.high - done :] = 0
        view.move(following, following + grid.high)


class _View:
    """The rows of an image that a row of windows sees, and which of their pixels show something."""

    def __init__(self, rows: Rows, shares: Shares) -> None:
        self._rows = rows
        self._shares = shares
        self._bottom: int | None = None
        self.pixels: np.ndarray
        self.mask: np.ndarray | None = None

    def move(self, top: int, bottom: int) -> None:
        """Downwards; what was read before is not read again."""
        with self._shares.of('reading'):
            start = top if self._bottom is None else self._bottom
            pixels, mask = self._rows.read(start, bottom), self._rows.mask(start, bottom)
            if self._bottom is not None and start > top:
                pixels = np.concatenate([self.pixels[top - start :], pixels])
                mask = mask if mask is None else np.concatenate([self.mask[top - start :], mask])
            self.pixels, self.mask, self._bottom = pixels, mask, bottom


def _add_row(
    model: nn.Module,
    grid: Grid,
    view: _View,
    sums: Tensor,
    weights: Tensor,
    weight: Tensor,
    batch: int,
    advance: Callable[[int], None],
) -> None:
    lefts = [left for left in grid.lefts if view.mask is None or view.mask[:, left : left + grid.wide].any()]
    for first in range(0, len(lefts), batch):
        group = lefts[first : first + batch]
        logits = window_logits(model, [view.pixels[:, left : left + grid.wide] for left in group])
        for left, of_window in zip(group, logits.float(), strict=True):
            sums[:, :, left : left + grid.wide].addcmul_(of_window, weight)
            weights[:, left : left + grid.wide] += weight
        advance(len(group))
    advance(len(grid.lefts) - len(lefts))


def weight_of(blend: str, high: int, wide: int) -> Tensor:
    """How much each pixel of a window counts where windows overlap: (high, wide), fp32.

    ``'gaussian'`` falls from 1 in the middle with a standard deviation of an eighth of the side, as nnU-Net weights its
    tiles (Isensee et al., Nature Methods 2021).
    """
    if blend == 'mean':
        return torch.ones(high, wide)

    def bell(side: int) -> Tensor:
        away = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        return (-0.5 * (away / (side / 8)) ** 2).exp()

    return torch.outer(bell(high), bell(wide)).float()


def window_logits(model: nn.Module, windows: list[np.ndarray]) -> Tensor:
    """Logits of windows of one size: list of (H, W, channels) -> (N, classes, H, W)."""
    high, wide = windows[0].shape[:2]
    inputs = [torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1))) for window in windows]
    # Some preprocessors pad in tests, and write into the samples that they did.
    samples = [BaseDataElement() for _ in windows]
    inputs = model.data_preprocessor({'inputs': inputs, 'data_samples': samples}, False)['inputs']
    shape = tuple(inputs.shape[2:])
    meta = {'img_shape': shape, 'ori_shape': shape, 'pad_shape': shape, 'padding_size': [0, 0, 0, 0]}
    logits = model.encode_decode(inputs, [dict(meta) for _ in windows])
    return logits[..., :high, :wide]


def label_type(model: nn.Module) -> type:
    """The smallest type that holds the classes of a segmentor, and one value more."""
    return np.uint8 if model.decode_head.num_classes < 256 else np.uint16


def nothing_to_see(model: nn.Module) -> int:
    """The label of pixels that show nothing: the largest that there is, 255 or 65535."""
    return int(np.iinfo(label_type(model)).max)


def _labels(model: nn.Module, sums: Tensor, weights: Tensor, mask: np.ndarray | None) -> np.ndarray:
    if mask is None:
        return _classes(model, sums.div_(weights))
    mask = mask[: len(weights)]
    labels = np.full(mask.shape, nothing_to_see(model), label_type(model))
    columns = np.flatnonzero(mask.any(axis=0))
    if len(columns):
        shown = slice(columns[0], columns[-1] + 1)
        weights = weights[:, shown]
        found = _classes(model, sums[:, :, shown].div_(weights.masked_fill(weights == 0, 1)))
        labels[:, shown] = np.where(mask[:, shown], found, labels[:, shown])
    return labels


def _classes(model: nn.Module, logits: Tensor) -> np.ndarray:
    # A head of one output tells two classes apart.
    labels = logits.argmax(dim=0) if len(logits) > 1 else logits[0].sigmoid() > model.decode_head.threshold
    return labels.cpu().numpy().astype(label_type(model))


def _check_memory(classes: int, high: int, width: int, device: torch.device) -> None:
    needed = 4 * classes * high * width
    free = torch.cuda.mem_get_info(device)[0] if device.type == 'cuda' else free_memory()
    if free is not None and needed > free:
        raise UserValueError(
            f'{classes} classes x {high} rows x {width} columns of logits take {needed / 1e9:.1f} GB, and '
            f'{free / 1e9:.1f} GB are free: take a window of less height, such as --window {high // 2}x{high}'
        )
