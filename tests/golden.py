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

    def assert_near(self, key: str, full: Tensor, relative: float, absolute: float = float('inf')) -> None:
        """Assert that ``full`` is near the stored sample: relative L2 norm of the difference, largest difference.

        The mean, deviation and sum of squares of the whole are compared as well.
        """
        about = self.info['arrays'][key]
        assert list(full.shape) == about['full_shape'], key
        full = full.detach()
        difference = full[tuple(slice(None, None, step) for step in about['stride'])] - self.arrays[key]
        error, largest = (difference.norm() / self.arrays[key].norm()).item(), difference.abs().max().item()
        assert error <= relative, f'{key}: relative L2 {error:.1e}, allowed {relative:.0e}'
        assert largest <= absolute, f'{key}: largest difference {largest:.1e}, allowed {absolute:.0e}'
        whole = full.double()
        assert abs(whole.mean().item() - about['mean']) <= 1e-5 * max(1.0, about['std']), f'{key}: mean'
        assert abs(whole.std(correction=0).item() - about['std']) <= 1e-4 * about['std'], f'{key}: deviation'
        assert abs(whole.square().sum().item() - about['sum_sq']) <= 1e-4 * about['sum_sq'], f'{key}: sum of squares'
