"""Images in one folder for each class, as ImageNet has them."""

import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

from mmengine.config import Config

from .checker import Checker, Progress, Statistics, no_progress
from .file_names import IMAGES
from .label_checker import SAMPLE, describe_sizes
from .label_files import examine_all
from .label_maps import CUT_OFF, UNDECODABLE
from .spread import spread
from .tally import Kind, Severity, Tally

NO_FOLDER = Kind(Severity.ERROR, 'folders that do not exist', 'correct data_root or data_prefix.')
EMPTY = Kind(Severity.ERROR, 'classes without images', 'put images there, or take the folder away.')
LOOSE = Kind(
    Severity.WARNING, 'images outside of the folders of classes', 'move them into the folder of their class, or away.'
)
STRAY = Kind(
    Severity.WARNING,
    'files in folders of classes that are no images',
    'convert them to .jpg or .png, or move them away.',
)
ORDER = Kind(
    Severity.ERROR,
    'folders of classes that are not those of training, so that classes get other numbers',
    'have the same folders in both, empty ones too, or name the classes.',
)


def is_image_folders(dataset: Any) -> bool:
    """Whether a data set (mmvim's or mmpretrain's) numbers its classes by their folders."""
    names = {base.__name__ for base in type(dataset).__mro__}
    return bool(names & {'ImageNet', 'CustomDataset'}) and not getattr(dataset, 'ann_file', '')


def root_of(dataset: Any) -> Path:
    """The folder that has those of the classes."""
    prefix = dataset.data_prefix
    root = prefix if isinstance(prefix, str) else next(iter(prefix.values()), '')
    return Path(root)


def classes_in(root: Path) -> list[str]:
    """Names of the folders of classes, in the order in which they are numbered."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith('.'))


def check_folders(root: Path, tally: Tally) -> dict[str, list[str]]:
    """Find folders without images and files that are no images or lie outside.

    Args:
        root: The folder that has those of the classes.
        tally: Takes the faults.

    Returns:
        Images of every class.
    """
    if not root.is_dir():
        tally.add(NO_FOLDER, str(root))
        return {}
    for path in sorted(root.iterdir()):
        if path.is_file() and path.suffix.lower() in IMAGES:
            tally.add(LOOSE, str(path))
    images = {}
    for name in classes_in(root):
        found = images[name] = []
        for folder, _, files in os.walk(root / name):
            for file in sorted(files):
                path = os.path.join(folder, file)
                if Path(file).suffix.lower() in ('.jpeg', '.jpg', '.png'):
                    found.append(path)
                elif not file.startswith('.'):
                    tally.add(STRAY, path)
        if not found:
            tally.add(EMPTY, str(root / name))
    return images


def check_number(count: int, cfg: Config, dataset: Any, root: Path, tally: Tally) -> None:
    """Compare the number of folders with the classes of the classifier, or else with those of the data set."""
    head = (cfg.get('model') or {}).get('head') or cfg.get('model') or {}
    wanted = head.get('num_classes') if isinstance(head, dict) else None
    wanted = getattr(dataset, 'num_classes', None) if wanted is None else wanted
    if count and wanted is not None and wanted != count:
        kind = Kind(
            Severity.ERROR,
            'other number of folders than the classifier has classes',
            f'have one folder for each class, or set num_classes={count} in the model and the data set.',
        )
        tally.add(kind, f'{root}: {count} folders, num_classes={wanted}')


def check_same_classes(train: list[str], other: list[str], root: Path, tally: Tally) -> None:
    """See that the folders of validation are those of training, in the same order."""
    for name in other:
        if name not in train:
            tally.add(ORDER, f'{root / name}: not in training')
    for name in train:
        if name not in other:
            tally.add(ORDER, f'{root} lacks {name}, which training has')


class ImageFolderChecker(Checker):
    """Checks images in one folder for each class."""

    @classmethod
    def applies_to(cls, dataset: Any) -> bool:
        """Whether a data set has this format."""
        return is_image_folders(dataset)

    @property
    def name(self) -> str:
        """The folder that has those of the classes."""
        return str(root_of(self.dataset))

    def quick(self, until: float) -> Tally:
        """What the folders tell, and whether some images can be decoded."""
        return self._check(SAMPLE, until, no_progress)[0]

    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        """Whether all images, or ``images`` of them, can be decoded."""
        return self._check(images, None, progress)

    @cached_property
    def _root(self) -> Path:
        return root_of(self.dataset)

    def _check(self, images: int | None, until: float | None, progress: Progress) -> tuple[Tally, Statistics]:
        tally = Tally()
        self._images = check_folders(self._root, tally)
        check_number(len(self._images), self.cfg, self.dataset, self._root, tally)
        self._compare_with_training(tally)
        files = spread([(file, None) for file in self.image_files()], images)
        sizes: Counter = Counter()
        seconds = None if until is None else max(until - monotonic(), 0.0)
        pairs = examine_all(
            files, seconds=seconds, progress=lambda pairs: progress(pairs, len(files), f'{self.stage}: images')
        )
        for pair in pairs:
            if pair.image_fault:
                tally.add(UNDECODABLE if pair.image_fault == 'undecodable' else CUT_OFF, pair.image)
            elif pair.size is not None:
                sizes[pair.size] += 1
        counts = {name: len(found) for name, found in self._images.items()}
        facts = {'images': str(sum(counts.values())), 'classes': str(len(counts))}
        if sizes:
            facts['image sizes'] = describe_sizes(sizes)
        return tally, Statistics(facts=facts, classes=counts, unit='images')

    def _compare_with_training(self, tally: Tally) -> None:
        train = (self.cfg.get('train_dataloader') or {}).get('dataset') or {}
        if self.stage == 'train' or train.get('type') != self.entry.get('type') or not self._root.is_dir():
            return
        prefix = train.get('data_prefix') or ''
        prefix = prefix if isinstance(prefix, str) else next(iter(prefix.values()), '')
        root = Path(train.get('data_root') or '', prefix)
        if root.is_dir():
            check_same_classes(classes_in(root), list(self._images), self._root, tally)

    def image_files(self) -> list[str]:
        """The images, after one of the checks."""
        return [file for found in self._images.values() for file in found]
