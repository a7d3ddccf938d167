"""Effective receptive fields: which pixels the middle of the last map depends on (https://arxiv.org/abs/1701.04128)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.miniature.scenes import render_scene

SHARES = (0.5, 0.99)
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, RGB
_FAINTEST = 1e-4  # of the strongest contribution: what is still drawn
_PIXELS = 128  # sides of a drawn field are averaged down to about as many


class Field:
    """Contributions of the pixels of an image to the middle of the last map.

    Attributes:
        values: (H, W), averaged over images, with a sum of 1.
        centre: (row, column) that has half of the contributions above it and half to the left: which pixels the middle
            of a map stands for differs between patches, padded convolutions and pooling.
    """

    def __init__(self, contributions: np.ndarray) -> None:
        self.values = contributions / contributions.sum()
        self.centre = tuple(int(self.values.sum(axis).cumsum().searchsorted(0.5)) for axis in (1, 0))


def receptive_field(model: nn.Module, images: Iterable[Tensor], at: tuple[float, float] = (0.5, 0.5)) -> Field:
    """Size of the gradient of one place of the last map, by default its middle, with respect to each pixel.

    Of the map's channels the positive parts are added: the plain sum of what a LayerNorm gives is a constant. Sizes of
    the gradient are added over colours and averaged over images.

    Args:
        model: Gives a tuple of maps (1, C, h, w).
        images: (1, 3, H, W) each, all of one size.
        at: The place, as parts of the map's height and width from its upper left corner: 0 to 1.

    Raises:
        ValueError: If that place of the last map depends on no pixel.
    """
    model.eval()  # on its own: mmdet's return nothing
    total = 0.0
    for image in images:
        image = image.detach().requires_grad_()
        last = model(image)[-1]
        rows, columns = last.shape[2:]
        row, column = (min(int(part * side), side - 1) for part, side in zip(at, (rows, columns), strict=True))
        place = last[:, :, row, column].relu().sum()
        (gradient,) = torch.autograd.grad(place, image)
        total = total + gradient.abs().sum((0, 1)).double().cpu().numpy()
    if not np.sum(total) > 0:
        raise UserValueError('that place of the last map does not depend on the image')
    return Field(total)


def smallest_square(field: Field, share: float) -> tuple[slice, slice]:
    """Rows and columns of the smallest square around the centre, cut at the image's edges, that holds ``share``."""
    height, width = field.values.shape
    sums = np.pad(field.values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    row, column = field.centre
    for radius in range(max(height, width)):
        top, bottom = max(row - radius, 0), min(row + radius + 1, height)
        left, right = max(column - radius, 0), min(column + radius + 1, width)
        held = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        if held >= share - 1e-9:
            break
    return slice(top, bottom), slice(left, right)


def area(field: Field, share: float) -> float:
    """The part of the image's area that :func:`smallest_square` takes."""
    rows, columns = smallest_square(field, share)
    return (rows.stop - rows.start) * (columns.stop - columns.start) / field.values.size


def rendered(count: int, size: int) -> Iterator[Tensor]:
    """Drawn scenes, always the same ones, as a model sees them."""
    for index in range(count):
        yield _normalised(render_scene(np.random.default_rng([1, index]), size, size).image)


def read_images(paths: Iterable[Path], size: int) -> tuple[list[Tensor], list[str]]:
    """Images from files, their shorter side resized to ``size`` and the middle cut out; and what could not be read."""
    images, unreadable = [], []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            unreadable.append(f'{path} is no image that OpenCV reads')
            continue
        height, width = image.shape[:2]
        factor = size / min(height, width)
        image = cv2.resize(image, (max(round(width * factor), size), max(round(height * factor), size)))
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        images.append(_normalised(image[top : top + size, left : left + size, ::-1]))
    return images, unreadable


def _normalised(image: np.ndarray) -> Tensor:
    """(H, W, 3) RGB of 0 to 255 to (1, 3, H, W)."""
    image = (image.astype(np.float32) - np.float32(_MEAN)) / np.float32(_STD)
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def draw(rows: dict[str, dict[str, Field]]) -> Figure:
    """A grid of fields: a row per kind of weights, a column per model, with the squares that hold :data:`SHARES`.

    Args:
        rows: Title of a row -> title of a model -> its field.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    figure = Figure(figsize=(2.7 * len(names) + 0.9, 3.3 * len(rows) + 0.5), layout='constrained')
    grid = figure.subplots(len(rows), len(names), squeeze=False)
    for line, (title, row) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(title, fontsize=12)
        for axis, name in zip(line, names, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            if name not in row:
                axis.set_frame_on(False)
                axis.text(0.5, 0.5, 'no weights given', ha='center', transform=axis.transAxes, color='grey')
                continue
            drawn = draw_field(axis, row[name])
            held = [f'{100 * share:.0f} % in {100 * area(row[name], share):.1f} %' for share in SHARES]
            axis.set_xlabel('   '.join(held), fontsize=10)
    for axis, name in zip(grid[0], names, strict=True):
        axis.set_title(name, fontsize=12)
    bar = figure.colorbar(drawn, ax=grid, label='contribution / largest', shrink=0.8, pad=0.01)
    bar.outline.set_visible(False)
    figure.suptitle(
        'Effective receptive field of the middle of the last map\n'
        'below: part of the area of the smallest square with 50 % (solid) and 99 % (dashed) of all contributions',
        fontsize=11,
    )  # fmt: skip
    return figure


def draw_field(axis: Axes, field: Field) -> AxesImage:
    """Draw one field, with the squares that hold :data:`SHARES`."""
    height, width = field.values.shape
    block = max(round(max(height, width) / _PIXELS), 1)
    small = field.values[: height // block * block, : width // block * block]
    small = small.reshape(height // block, block, width // block, block).mean((1, 3))
    shown = np.maximum(small / small.max(), _FAINTEST)
    extent = (0, small.shape[1] * block, small.shape[0] * block, 0)
    drawn = axis.imshow(shown, cmap='magma', norm=LogNorm(_FAINTEST, 1), extent=extent)
    for share, style in zip(SHARES, ('-', '--'), strict=True):
        rows, columns = smallest_square(field, share)
        corner, sides = (columns.start, rows.start), (columns.stop - columns.start, rows.stop - rows.start)
        axis.add_patch(Rectangle(corner, *sides, fill=False, edgecolor='#7fe0d0', linestyle=style, linewidth=1.2))
    return drawn
