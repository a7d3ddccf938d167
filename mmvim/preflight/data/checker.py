"""What every format of data answers: whether it is right, what is in it, and how it looks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tally import Tally

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

#: Wraps what is worked through, to show how far it is: ``for item in progress(items, total, 'train: images')``.
Progress = Callable[[Iterable, int, str], Iterable]


def no_progress(items: Iterable, total: int, what: str) -> Iterable:
    """A :data:`Progress` that shows nothing."""
    return items


@dataclass
class Statistics:
    """What people look for in a data set.

    Attributes:
        facts: Lines of a table, such as ``{'images': '400', 'boxes per image': '0 to 9, median 3'}``.
        classes: Instances or pixels of each class.
        unit: What ``classes`` counts, ``'instances'`` or ``'pixels'``.
    """

    facts: dict[str, str] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    unit: str = 'instances'


class Checker(ABC):
    """Checks one data set of a config.

    Args:
        dataset: As its class builds it with ``lazy_init=True``; never one that wraps others.
        entry: The part of the config that it was built from, which :meth:`mend` may change.
        stage: ``'train'``, ``'val'`` or ``'test'``.
        cfg: Config of the run.
    """

    def __init__(self, dataset: Any, entry: ConfigDict, stage: str, cfg: Config) -> None:
        self.dataset = dataset
        self.entry = entry
        self.stage = stage
        self.cfg = cfg

    @classmethod
    @abstractmethod
    def applies_to(cls, dataset: Any) -> bool:
        """Whether a data set has this format."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What is checked, for headings: its file or folder."""

    @abstractmethod
    def quick(self, until: float) -> Tally:
        """What is found in a few seconds.

        Args:
            until: ``time.monotonic()`` after which no further file is opened.
        """

    @abstractmethod
    def full(self, images: int | None, progress: Progress) -> tuple[Tally, Statistics]:
        """What is found by reading everything.

        Args:
            images: Open as many images or label maps, evenly spread; all of them by default.
            progress: Shows how far it is.
        """

    @abstractmethod
    def image_files(self) -> list[str]:
        """The images, after one of the checks, for finding those of validation among those of training."""

    def mend(self, folder: Path) -> str:
        """After one of the checks, have the config use what can be trained on.

        Args:
            folder: For files that are written; the same in all processes of a run.

        Returns:
            A line that says what was done, empty if nothing had to be.
        """
        return ''

    def draw(self, folder: Path, count: int) -> list[Path]:
        """After :meth:`full`, draw some images with their labels.

        Args:
            folder: For the pictures; it exists.
            count: How many.

        Returns:
            The files, none where the format has no pictures to draw.
        """
        return []
