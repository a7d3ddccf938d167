"""The legend beside a picture: classes with their colours and areas, the best guesses, the times."""

from __future__ import annotations

from html import escape

import numpy as np

from .picture import above
from .seen import Objects, Ranking, Seen, Segments

_GUESSES = 5


def legend(title: str, seen: Seen, threshold: float) -> str:
    """HTML of one model's legend; names of classes come from strangers' files, and are escaped.

    Args:
        title: The model's.
        seen: What it saw.
        threshold: Confidence from which on boxes and masks count.
    """
    if isinstance(seen, Segments):
        rows = _of_segments(seen)
    elif isinstance(seen, Objects):
        rows = _of_objects(seen, threshold)
    elif isinstance(seen, Ranking):
        rows = _of_ranking(seen)
    times = ' · '.join(f'{name} {_seconds(spent)}' for name, spent in seen.times.items())
    notes = ''.join(f'<div class="mm-note">{escape(note)}</div>' for note in seen.notes)
    body = ''.join(rows) or '<tr><td class="mm-note">nothing above the score threshold</td></tr>'
    return (
        f'<div class="mm-legend"><h4>{escape(title)}</h4><table>{body}</table>{notes}'
        f'<div class="mm-times">{escape(times)}</div></div>'
    )


def _of_segments(seen: Segments) -> list[str]:
    shares = seen.counts / max(seen.counts.sum(), 1)
    return [
        _row(seen.palette[number], seen.classes[number], shares[number], f'{seen.counts[number]:,} px')
        for number in np.argsort(-seen.counts, kind='stable')
        if seen.counts[number]
    ]


def _of_objects(seen: Objects, threshold: float) -> list[str]:
    chosen = above(seen, threshold)
    rows = []
    for number in np.unique(seen.labels[chosen]):
        of_class = [index for index in chosen if seen.labels[index] == number]
        share = np.any([_covered(seen, index) for index in of_class], axis=0).mean()
        rows.append((share, _row(seen.palette[number], seen.classes[number], share, f'{len(of_class)} x')))
    return [row for _, row in sorted(rows, reverse=True)]


def _covered(seen: Objects, index: int) -> np.ndarray:
    """(h, w) bool: the mask of an object, or else its box."""
    if seen.masks is not None:
        return seen.masks[index]
    covered = np.zeros(seen.image.shape[:2], bool)
    left, top, right, bottom = seen.boxes[index].round().astype(int).clip(0)
    covered[top:bottom, left:right] = True
    return covered


def _of_ranking(seen: Ranking) -> list[str]:
    best = np.argsort(-seen.scores, kind='stable')[:_GUESSES]
    return [_row((79, 70, 229), seen.classes[number], float(seen.scores[number]), '') for number in best]


def _row(colour: tuple[int, int, int], name: str, share: float, more: str) -> str:
    rgb = f'rgb({",".join(str(int(value)) for value in colour)})'
    return (
        f'<tr><td><span class="mm-swatch" style="background:{rgb}"></span>{escape(str(name))}</td>'
        f'<td class="mm-bar"><span style="width:{100 * share:.1f}%;background:{rgb}"></span></td>'
        f'<td class="mm-number">{100 * share:.1f} %</td><td class="mm-number">{escape(more)}</td></tr>'
    )


def _seconds(spent: float) -> str:
    return f'{1000 * spent:.0f} ms' if spent < 1 else f'{spent:.1f} s'
