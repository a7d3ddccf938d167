"""Label maps rewritten as one number of a class for each pixel."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmvim.errors import UserValueError

Colour = Sequence[int]


def from_palette(palette: Sequence[Colour]) -> Callable[[Image.Image], np.ndarray]:
    """Colours become the numbers of their classes.

    Args:
        palette: RGB of each class, in their order.
    """
    numbers = {tuple(int(channel) for channel in colour): number for number, colour in enumerate(palette)}
    table = np.full(1 << 24, -1, dtype=np.int16)
    for (red, green, blue), number in numbers.items():
        table[red << 16 | green << 8 | blue] = number

    def convert(image: Image.Image) -> np.ndarray:
        colours = np.array(image.convert('RGB')).astype(np.int32)
        label = table[colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]]
        if (label < 0).any():
            colour = tuple(colours[label < 0][0].tolist())
            raise UserValueError(f'{(label < 0).sum()} pixels have colours that the palette lacks, such as {colour}')
        return label.astype(np.uint8)

    return convert


def from_grey(image: Image.Image) -> np.ndarray:
    """One of three equal channels."""
    channels = np.array(image.convert('RGB'))
    if (channels != channels[..., :1]).any():
        raise UserValueError('its channels are not equal')
    return channels[..., 0].copy()


def from_values(values: dict[int, int]) -> Callable[[Image.Image], np.ndarray]:
    """Values become others; those not named stay.

    Args:
        values: Old to new.
    """

    def convert(image: Image.Image) -> np.ndarray:
        old = np.array(image)
        if old.ndim != 2:
            raise UserValueError(f'it has {old.shape[2]} channels')
        new = old.astype(np.int64)
        for before, after in values.items():
            new[old == before] = after
        if new.min() < 0 or new.max() > 255:
            raise UserValueError(f'values {new.min()} to {new.max()} do not fit into 8 bits')
        return new.astype(np.uint8)

    return convert


def convert_folder(source: Path, target: Path, convert: Callable[[Image.Image], np.ndarray]) -> int:
    """Write every label map of a folder, and of those inside it, as an 8-bit PNG of the same name.

    Returns:
        How many there were.

    Raises:
        ValueError: If a file cannot be converted, with its name; if both folders are the same; if there is none.
    """
    if source.resolve() == target.resolve():
        raise UserValueError(f'{target}: give another folder than that of the originals')
    count = 0
    for path in sorted(source.rglob('*')):
        if path.suffix.lower() not in ('.png', '.bmp', '.tif', '.tiff', '.gif'):
            continue
        try:
            with Image.open(path) as image:
                label = convert(image)
        except (ValueError, OSError) as error:
            raise UserValueError(f'{path}: {error}') from error
        out = (target / path.relative_to(source)).with_suffix('.png')
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(out)
        count += 1
    if not count:
        raise UserValueError(f'{source} has no label maps (.png, .bmp, .tif, .gif)')
    return count
