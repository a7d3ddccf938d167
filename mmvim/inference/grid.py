"""Where the windows over a large image are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmvim.errors import UserValueError

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


@dataclass(frozen=True)
class Grid:
    """Where the windows of an image are, and in how many bands of rows its labels are finished.

    A band is what is finished by one row of windows: band ``i`` goes from ``tops[i]`` to ``tops[i + 1]``.

    Attributes:
        height, width: of the image.
        high, wide: of a window; none is larger than the image.
        tops, lefts: where windows begin.
    """

    height: int
    width: int
    high: int
    wide: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def over(cls, height: int, width: int, window: Size, stride: Size) -> Grid:
        """The windows of ``slide_inference`` of mmseg.

        Raises:
            ValueError: if the stride leaves gaps.
        """
        if not all(0 < step <= side for step, side in zip(stride, window, strict=True)):
            raise UserValueError(f'a stride of {stride} for a window of {window} leaves pixels out: at most the window')
        high, wide = min(window[0], height), min(window[1], width)
        tops, lefts = starts(height, high, stride[0]), starts(width, wide, stride[1])
        return cls(height, width, high, wide, tuple(tops), tuple(lefts))

    def band(self, index: int) -> tuple[int, int]:
        """Its first row, and the one after its last."""
        return self.tops[index], (*self.tops[1:], self.height)[index]

    def first_row_of_windows(self, band: int) -> int:
        """The first row of windows that reaches into a band."""
        return next(row for row, top in enumerate(self.tops) if top + self.high > self.tops[band])

    def count(self, first: int, last: int) -> int:
        """How many windows the bands ``first <= i < last`` take, with those above that reach into them."""
        return (last - self.first_row_of_windows(first)) * len(self.lefts)


def count_windows(height: int, width: int, window: Size, stride: Size) -> int:
    """How many windows an image has."""
    grid = Grid.over(height, width, window, stride)
    return len(grid.tops) * len(grid.lefts)
