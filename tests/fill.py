"""The weights and images that the golden data were made with.

A golden file stores outputs, not weights: every tensor is drawn from a generator that its own name seeds, so the same
numbers come back on any machine. Names are those of the official models.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def normal(seed: int, shape: Sequence[int]) -> Tensor:
    """Numbers from the standard normal distribution, the same on every machine."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32))


def fill_tensor(name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Values of the parameter or buffer ``name`` (official name), plausible for its role.

    Decay rates lie around log(1..N), skips and norm weights around 1, step biases around -4, so that states neither
    die nor grow; matrices are scaled by their fan-in.
    """
    leaf = name.rpartition('.')[2]
    if leaf == 'num_batches_tracked':
        return torch.zeros(tuple(shape), dtype=torch.long)
    noise = normal(zlib.crc32(name.encode()), shape) if len(shape) else torch.tensor(0.0)
    if leaf == 'running_mean':
        values = 0.1 * noise
    elif leaf == 'running_var':
        values = 1 + 0.1 * noise.abs()
    elif leaf.startswith('A_'):
        values = torch.arange(1, shape[-1] + 1, dtype=torch.float32).log().expand(tuple(shape)) + 0.1 * noise
    elif leaf in ('D', 'D_b', 'Ds'):
        values = 1 + 0.1 * noise
    elif leaf.endswith('bias') and 'dt_proj' in name:
        values = -4 + 0.5 * noise
    elif len(shape) <= 1:
        values = 1 + 0.1 * noise if leaf == 'weight' else 0.1 * noise
    elif 'token' in leaf or 'embed' in leaf:
        values = 0.02 * noise
    else:
        values = noise / math.sqrt(math.prod(shape[1:]))
    return values.to(dtype)


def filled_state_dict(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """``{name: shape}`` to ``{name: values}``."""
    return {name: fill_tensor(name, shape) for name, shape in shapes.items()}


def image(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A batch of normalised images, (batch, 3, height, width)."""
    return normal(seed, (batch, 3, height, width))
