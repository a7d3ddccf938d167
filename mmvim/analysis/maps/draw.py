"""Pictures of maps, over the image that they belong to."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .scan import ScanMap
from .view import View

_FAINTEST = 1e-3  # of the largest value: what is still drawn of what a scan carries
_OPACITY = 0.55


def draw_map(view: View, values: np.ndarray, title: str, place: tuple[int, int] | None = None) -> Figure:
    """The image, and a map (h, w) over it, from its lowest value to its highest; ``place`` is marked."""
    figure, (left, right) = _panels(2)
    left.imshow(view.picture)
    right.imshow(view.picture)
    drawn = right.imshow(view.fitted(values), cmap='inferno', alpha=_OPACITY)
    figure.suptitle(title, fontsize=10)
    for axis in (left, right):
        _mark(axis, place)
    figure.colorbar(drawn, ax=right, shrink=0.8).outline.set_visible(False)
    return figure


def draw_scan(view: View, found: ScanMap, place: tuple[int, int], title: str) -> Figure:
    """The image, what each token gives to the one at ``place`` along each walk, and the sum; one logarithmic scale.

    It ends at the largest that another token gives: what a token has of itself is mostly far more.
    """
    total = found.walks.sum(0)
    others = total.copy()
    others[found.token] = 0
    largest = max(float(others.max()), np.finfo(np.float32).tiny)
    panels = [*zip(found.titles, found.walks, strict=True), ('all walks', total)]
    figure, axes = _panels(1 + len(panels))
    axes[0].imshow(view.picture)
    axes[0].set_title('what the model sees', fontsize=10)
    height, width = view.picture.shape[:2]
    sides = view.inputs.shape[3], view.inputs.shape[2]
    for axis, (name, values) in zip(axes[1:], panels, strict=True):
        shown = np.maximum(values / largest, _FAINTEST)
        drawn = axis.imshow(
            shown, cmap='inferno', norm=LogNorm(_FAINTEST, 1, clip=True), extent=(0, sides[0], sides[1], 0)
        )
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
        axis.set_title(name, fontsize=10)
    for axis in axes:
        _mark(axis, place)
    figure.colorbar(drawn, ax=axes, label='size / largest of another token', shrink=0.7).outline.set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(2.6 * count + 1, 3.4), layout='constrained')
    axes = list(figure.subplots(1, count))
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes


def _mark(axis: Axes, place: tuple[int, int] | None) -> None:
    if place is not None:
        axis.plot(place[1], place[0], marker='o', markersize=7, markerfacecolor='none', color='#4fd6c0')
