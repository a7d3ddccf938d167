"""ImageNet in folders, one for each class, read as the published accuracies were measured."""

from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement
from PIL import Image

from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.registry import DATASETS, TRANSFORMS

_SUFFIXES = {'.jpeg', '.jpg', '.png'}


@DATASETS.register_module()
class ImageNet(BaseDataset):
    """Images in one folder for each class; the classes are numbered in the order of the folders' names.

    Args:
        num_classes (int): Folders that there must be: with a folder missing, the numbers of those behind it would be
            wrong.
        **kwargs: Of mmengine's ``BaseDataset``; ``data_prefix`` is ``dict(img='val')``.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has another number of folders, or no images.
    """

    def __init__(self, num_classes: int = 1000, **kwargs) -> None:
        self.num_classes = num_classes
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry for each image: its path, and the number of its class."""
        root = Path(self.data_prefix['img'])
        if not root.is_dir():
            raise UserFileNotFoundError(f'there is no folder {root} of images')
        classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith('.'))
        if len(classes) != self.num_classes:
            loose = sum(path.suffix.lower() in _SUFFIXES for path in root.iterdir())
            hint = f'; it has {loose} images outside of folders: sort them into theirs first' if loose else ''
            raise UserValueError(
                f'{root} has {len(classes)} folders and the classifier {self.num_classes} classes: expected one folder '
                f'for each class, named by its WordNet id such as n01440764{hint}'
            )
        entries = [
            {'img_path': str(path), 'gt_label': label}
            for label, folder in enumerate(classes)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in _SUFFIXES
        ]
        if not entries:
            raise UserValueError(f'{root} has no images in its folders')
        return entries


@TRANSFORMS.register_module()
class LoadForClassifier:
    """Reads an image, resizes its short side by a filtered bicubic interpolation, and cuts its centre out.

    Sides and offsets are rounded as in torchvision, with which the published accuracies were measured.

    Args:
        resize (int): Length of the short side in pixels.
        crop (int): Height and width of what is cut out; at most ``resize``.

    Raises:
        ValueError: If ``crop`` is larger than ``resize``; if a file is no image.
    """

    def __init__(self, resize: int = 256, crop: int = 224) -> None:
        if crop > resize:
            raise UserValueError(f'crop={crop}: expected at most resize={resize}')
        self.resize = resize
        self.crop = crop

    def __call__(self, entry: dict) -> dict:
        """An entry of the data set to ``inputs``, uint8 RGB (3, crop, crop), and ``data_samples``."""
        path = entry['img_path']
        try:
            with Image.open(path) as file:
                image = self.cut(file.convert('RGB'))
        except OSError as error:
            raise UserValueError(f'{path} cannot be read as an image ({error}): copy it again') from error
        sample = BaseDataElement(metainfo={'img_path': path})
        sample.gt_label = torch.tensor(entry['gt_label'])
        return {'inputs': torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), 'data_samples': sample}

    def cut(self, image: Image.Image) -> Image.Image:
        """What a classifier sees of an image."""
        size, left, top = self.window(*image.size)
        image = image.resize(size, Image.Resampling.BICUBIC)
        return image.crop((left, top, left + self.crop, top + self.crop))

    def window(self, width: int, height: int) -> tuple[tuple[int, int], int, int]:
        """For an image of this size: width and height that it is resized to, left and top side of what is cut out."""
        short, long = sorted((width, height))
        longer = int(self.resize * long / short)
        size = (self.resize, longer) if width <= height else (longer, self.resize)
        left, top = (round((side - self.crop) / 2) for side in size)
        return size, left, top
