"""Outputs of the official code that the tests compare with."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / 'data' / 'golden'


class Golden:
    """The arrays of ``tests/data/golden/NAME.npz``, each a regular sample of a larger one, and how they were made."""

    def __init__(self, name: str) -> None:
        self.info = json.loads((FOLDER / f'{name}.json').read_text())
        self.arrays = {key: torch.from_numpy(value) for key, value in np.load(FOLDER / f'{name}.npz').items()}

    def assert_close(self, key: str, full: Tensor, tolerance: float) -> None:
        """Assert that ``full`` is within ``tolerance`` times its largest value of the stored sample."""
        about = self.info['arrays'][key]
        assert list(full.shape) == about['full']['shape'], key
        largest = about['full']['absmax']
        sample = full.detach()[tuple(slice(None, None, step) for step in about['steps'])]
        error = (sample - self.arrays[key]).abs().max().item() / largest
        assert error <= tolerance, f'{key}: {error:.1e} of the largest value, allowed {tolerance:.0e}'
        assert abs(full.abs().max().item() - largest) <= tolerance * largest, f'{key}: largest value of the whole'
