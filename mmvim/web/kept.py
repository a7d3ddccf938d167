"""Models that stay loaded, as far as memory is meant for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from mmvim.errors import UserValueError

from .offers import Offer
from .viewer import Viewer


class Kept:
    """The models that were used last, within a bound. While one more is loaded, it is there beside the others.

    Args:
        bound: Bytes that the tensors of all models may take together.
        load: What loads one.
    """

    def __init__(self, bound: int, load: Callable[[Offer], Viewer]) -> None:
        self._bound = bound
        self._load = load
        self._kept: OrderedDict[Offer, Viewer] = OrderedDict()
        self._lock = Lock()

    def get(self, offer: Offer) -> Viewer:
        """A model, loaded unless it is there; those that were not used for longest make room for it.

        Raises:
            ValueError: If it is larger than the bound.
            ValueError, OSError, RuntimeError: If it cannot be loaded.
        """
        with self._lock:
            if offer not in self._kept:
                viewer = self._load(offer)
                if viewer.bytes > self._bound:
                    raise UserValueError(
                        f'{offer.label} takes {viewer.bytes / 1e9:.2f} GB, and this page keeps {self._bound / 1e9:.2f} '
                        'GB of models: start it with more, python tools/web.py --memory GB'
                    )
                self._kept[offer] = viewer
            self._kept.move_to_end(offer)
            while self.bytes > self._bound:
                self._kept.popitem(last=False)
            return self._kept[offer]

    @property
    def bytes(self) -> int:
        """What is kept takes as many."""
        return sum(viewer.bytes for viewer in self._kept.values())
