"""Samples of a data set."""

from collections.abc import Sequence

import numpy as np


def spread(items: Sequence, count: int | None) -> list:
    """``count`` items, evenly spread from the first to the last; all by default."""
    if count is None or count >= len(items):
        return list(items)
    return [items[round(number)] for number in np.linspace(0, len(items) - 1, count)]
