"""Semantic segmentation of large images by a sliding window, as many rows at a time as the window is high."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.machine import free_memory

from .rows import Rows

Size = tuple[int, int]


def window_of(model: nn.Module) -> tuple[Size, Size]:
    """Height and width of the window, and of its steps, that a segmentor is tested with, or else was trained with."""
    if model.test_cfg.get('mode') == 'slide':
        return tuple(model.test_cfg.crop_size), tuple(model.test_cfg.stride)
    window = tuple(getattr(model.data_preprocessor, 'size', None) or (512, 512))
    return window, default_stride(window)


def default_stride(window: Size) -> Size:
    """Two thirds of the window, as is usual for ADE20K."""
    return tuple(max(side * 2 // 3, 1) for side in window)


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where the windows begin along one side: each a stride further, the last one moved back to end with the image."""
    return [min(start, length - window) for start in range(0, length - window + stride, stride)]


def count_windows(height: int, width: int, window: Size, stride: Size) -> int:
    """How many windows an image has."""
    sides = zip((height, width), window, stride, strict=True)
    down, across = (len(starts(length, min(side, length), step)) for length, side, step in sides)
    return down * across


@torch.no_grad()
def label_bands(
    model: nn.Module,
    rows: Rows,
    window: Size,
    stride: Size,
    batch: int = 4,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[np.ndarray]:
    """Segment an image from top to bottom.

    The logits of overlapping windows are averaged, with the windows where ``slide_inference`` of mmseg has them. What
    is kept is their sum over one row of windows, fp32: classes x window height x image width values, whatever the
    height of the image. Each row of the image is read once.

    Args:
        model: an ``EncoderDecoder`` of mmseg, in eval mode.
        rows: the image.
        window: height and width of what the model sees at a time, in pixels of the image.
        stride: steps of the window, in pixels.
        batch: windows at a time.
        advance: is told each number of windows that are done.

    Yields:
        (rows, W) class indices, uint8 or uint16, top to bottom, until all rows of the image are there.

    Raises:
        ValueError: if the stride leaves gaps, or the sums do not fit into memory.
    """
    if not all(0 < step <= side for step, side in zip(stride, window, strict=True)):
        raise UserValueError(f'a stride of {stride} for a window of {window} leaves pixels out: at most the window')
    height, width = rows.height, rows.width
    high, wide = min(window[0], height), min(window[1], width)
    tops, lefts = starts(height, high, stride[0]), starts(width, wide, stride[1])
    per_row, per_column = _times_covered(height, high, tops), _times_covered(width, wide, lefts)
    device = next(model.parameters()).device
    _check_memory(model.out_channels, high, width, device)
    sums = torch.zeros(model.out_channels, high, width, device=device)
    pixels = rows.read(0, high)
    for top, following in pairwise([*tops, height]):
        for first in range(0, len(lefts), batch):
            group = lefts[first : first + batch]
            logits = window_logits(model, [pixels[:, left : left + wide] for left in group])
            for left, of_window in zip(group, logits, strict=True):
                sums[:, :, left : left + wide] += of_window
            advance(len(group))
        done = following - top
        times = per_row[top:following, None] * per_column
        yield _classes(model, sums[:, :done].div_(times.to(device)))
        if following == height:
            return
        for of_class in sums:
            of_class[: high - done] = of_class[done:].clone()
        sums[:, high - done :] = 0
        pixels = np.concatenate([pixels[done:], rows.read(top + high, following + high)])


def window_logits(model: nn.Module, windows: list[np.ndarray]) -> Tensor:
    """Logits of windows of one size: list of (H, W, 3) uint8, BGR -> (N, classes, H, W)."""
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
    """The smallest type that holds the classes of a segmentor."""
    return np.uint8 if model.decode_head.num_classes <= 256 else np.uint16


def _classes(model: nn.Module, logits: Tensor) -> np.ndarray:
    # A head of one output tells two classes apart.
    labels = logits.argmax(dim=0) if len(logits) > 1 else logits[0].sigmoid() > model.decode_head.threshold
    return labels.cpu().numpy().astype(label_type(model))


def _times_covered(length: int, window: int, begins: list[int]) -> Tensor:
    times = torch.zeros(length)
    for begin in begins:
        times[begin : begin + window] += 1
    return times


def _check_memory(classes: int, high: int, width: int, device: torch.device) -> None:
    needed = 4 * classes * high * width
    free = torch.cuda.mem_get_info(device)[0] if device.type == 'cuda' else free_memory()
    if free is not None and needed > free:
        raise UserValueError(
            f'{classes} classes x {high} rows x {width} columns of logits take {needed / 1e9:.1f} GB, and '
            f'{free / 1e9:.1f} GB are free: take a window of less height, such as --window {high // 2}x{high}'
        )
