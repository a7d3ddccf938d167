"""The operators at the shapes of Vim and VMamba, on random data of the scale that trained models have."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.ops import Walks, scan, walk_conv, walks


class Shape(NamedTuple):
    """One call of a scan.

    Attributes:
        name: For tables.
        batch: Images.
        walks: What is walked.
        channels: D.
        states: N.
        rank: R of the steps.
        gate: Whether there is a gate, and an input of its own for each walk (Vim), or neither (VMamba).
    """

    name: str
    batch: int
    walks: Walks
    channels: int
    states: int
    rank: int
    gate: bool


def vim(name: str, channels: int, batch: int, length: int) -> Shape:
    """Vim's scan; ``channels`` is that of the model."""
    return Shape(name, batch, walks.bidirectional(length), 2 * channels, 16, channels // 16, True)


def vmamba(name: str, channels: int, batch: int, grid: tuple[int, int], states: int = 1, ratio: int = 1) -> Shape:
    """VMamba's scan in a stage of ``channels``."""
    return Shape(name, batch, walks.cross(*grid), ratio * channels, states, channels // 16, False)


SHAPES = (
    vim('Vim-S, 224', 384, 64, 197),
    vim('Vim-S, 512', 384, 8, 1025),
    vim('Vim-S, 512', 384, 1, 1025),
    vim('Vim-S, 1248', 384, 8, 6085),
    vim('Vim-S, 1248', 384, 1, 6085),
    vim('Vim-Ti, 1248', 192, 8, 6085),
    vim('Vim-S, 2048', 384, 1, 16385),
    vmamba('VMamba-T, 1280 x 800, stage 1', 96, 1, (200, 320)),
    vmamba('VMamba-T, 1280 x 800, stage 2', 192, 1, (100, 160)),
    vmamba('VMamba-T, 1280 x 800, stage 3', 384, 1, (50, 80)),
    vmamba('VMamba-T, 1280 x 800, stage 4', 768, 1, (25, 40)),
    vmamba('VMamba-T, 1280 x 800, stage 1', 96, 16, (200, 320)),
    vmamba('VMamba-T, 1280 x 800, stage 2', 192, 16, (100, 160)),
    vmamba('VMamba-T, 224, stage 3', 384, 128, (14, 14)),
    vmamba('first VMamba-T, 1280 x 800, stage 1', 96, 1, (200, 320), 16, 2),
)
QUICK = (vim('Vim, small', 32, 2, 37), vmamba('VMamba, small', 32, 2, (7, 9)))


def scan_arguments(shape: Shape, device: str, dtype: torch.dtype, seed: int = 0) -> dict[str, Any]:
    """Arguments of a scan; steps, B and C are slices of one projection, as in the models."""
    g = torch.Generator(device).manual_seed(seed)
    K, L, D, N, R = shape.walks.num_walks, shape.walks.num_tokens, shape.channels, shape.states, shape.rank

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, device=device)

    projected = normal(shape.batch, K, L, R + 2 * N).to(dtype)
    delta, B, C = projected.split([R, N, N], -1)
    return {
        'u': normal(shape.batch, *((K,) if shape.gate else ()), L, D).to(dtype),
        'delta': delta,
        'A': -torch.arange(1.0, N + 1, device=device).repeat(K, D, 1),
        'B': B,
        'C': C,
        'D': normal(K, D),
        'z': normal(shape.batch, L, D).to(dtype) if shape.gate else None,
        'delta_bias': normal(K, D) - 4.6,
        'dt_weight': normal(K, D, R) * R**-0.5,
        'walks': shape.walks,
        'scale': 0.5 if shape.gate else 1.0,
    }


def mixer_weights(shape: Shape, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """What a mixer has besides the scan's parameters."""
    g = torch.Generator(device).manual_seed(1)
    K, D, rows = shape.walks.num_walks, shape.channels, shape.rank + 2 * shape.states
    return {
        'x_proj': (torch.randn(K, rows, D, generator=g, device=device) * D**-0.5).to(dtype),
        'conv': torch.randn(K, D, 4, generator=g, device=device) / 2,
        'conv_bias': torch.randn(K, D, generator=g, device=device) / 2,
    }


def vim_path(x: Tensor, case: dict[str, Any], weights: dict[str, Tensor], backend: str = 'auto') -> Tensor:
    """From convolution to gate of Vim's mixer: x (B, L, D)."""
    u = walk_conv(x, weights['conv'], weights['conv_bias'], walks=case['walks'], backend=backend)
    projected = u @ weights['x_proj'].transpose(-1, -2)
    return scan(**{**case, 'u': u, **_split(projected, case)}, backend=backend)


def ss2d_core(x: Tensor, case: dict[str, Any], weights: dict[str, Tensor], backend: str = 'auto') -> Tensor:
    """From the projection to the sum of the walks of SS2D: x (B, L, D)."""
    projected = (
        F.linear(x, weights['x_proj'].flatten(0, 1)).unflatten(-1, (case['walks'].num_walks, -1)).transpose(1, 2)
    )
    return scan(**{**case, 'u': x, **_split(projected, case)}, backend=backend)


def _split(projected: Tensor, case: dict[str, Any]) -> dict[str, Tensor]:
    rank, states = case['dt_weight'].shape[-1], case['A'].shape[-1]
    return dict(zip(('delta', 'B', 'C'), projected.split([rank, states, states], -1), strict=True))
