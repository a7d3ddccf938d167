"""Images without labels, in folders of any depth, and the way that they take to a model.

mmpretrain has such a data set and such crops; its transforms import torchvision, which nothing else here needs.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset

from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.registry import DATASETS, TRANSFORMS

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images in a folder and in those below it, links followed; hidden files and folders are left out.

    Args:
        **kwargs: Of mmengine's ``BaseDataset``; ``data_prefix`` is ``dict(img_path='train')``, or empty for all of
            ``data_root``.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no images.
    """

    def load_data_list(self) -> list[dict]:
        """One entry for each image, its path, in the order of names."""
        root = Path(self.data_prefix.get('img_path') or self.data_root or '.')
        if not root.is_dir():
            raise UserFileNotFoundError(f'there is no folder {root} of images')
        paths = []
        for folder, folders, files in os.walk(root, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            paths += [
                os.path.join(folder, name)
                for name in sorted(files)
                if name.lower().endswith(SUFFIXES) and not name.startswith('.')
            ]
        if not paths:
            raise UserValueError(f'{root} has no images, nor has any folder in it: expected {", ".join(SUFFIXES)}')
        return [{'img_path': path} for path in paths]


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut a random piece out of an image and resize it.

    Args:
        scale (int | tuple[int, int]): Height and width of the result in pixels.
        area (tuple[float, float]): Least and greatest part of the image's area in the piece.
        ratio (tuple[float, float]): Least and greatest width / height of the piece, every factor as likely as its
            inverse. A piece that is longer than the image is cut to it.

    Raises:
        ValueError: If a range is empty or leaves what is possible.
    """

    def __init__(
        self,
        scale: int | tuple[int, int],
        area: tuple[float, float] = (0.67, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.height, self.width = (scale, scale) if isinstance(scale, int) else scale
        if min(self.height, self.width) < 1:
            raise UserValueError(f'scale={scale}: expected pixels, or (height, width), of at least 1')
        if not (0 < area[0] <= area[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise UserValueError(
                f'area={area}, ratio={ratio}: expected a range within 0 to 1 and one of positive numbers, '
                'the smaller number first'
            )
        self.area, self.ratio = area, ratio

    def transform(self, results: dict) -> dict:
        """``img`` (H, W, C) to (height, width, C)."""
        image = results['img']
        full_height, full_width = image.shape[:2]
        pixels = full_height * full_width * np.random.uniform(*self.area)
        ratio = np.exp(np.random.uniform(*np.log(self.ratio)))
        height = min(max(round((pixels / ratio) ** 0.5), 1), full_height)
        width = min(max(round((pixels * ratio) ** 0.5), 1), full_width)
        top = np.random.randint(full_height - height + 1)
        left = np.random.randint(full_width - width + 1)
        # Cubic interpolation of a shrinking image would skip pixels.
        how = cv2.INTER_AREA if height > self.height and width > self.width else cv2.INTER_CUBIC
        piece = image[top : top + height, left : left + width]
        results['img'] = cv2.resize(piece, (self.width, self.height), interpolation=how)
        results['img_shape'] = (self.height, self.width)
        return results


@TRANSFORMS.register_module()
class PackImage(BaseTransform):
    """The last step: the image alone, for models that need no labels."""

    def transform(self, results: dict) -> dict:
        """``img`` (H, W, C) to ``inputs`` (C, H, W)."""
        return {'inputs': torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))}
