"""Checkpoint files in the layouts that were published, with values of the tests' own."""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

_SHAPES = Path(__file__).parent / 'data' / 'vim'

#: Published classifiers: the variant's name in tests/data/vim, the name of its file, and the arch in mmvim.
CLASSIFIERS = {
    'tiny': ('vim_t_midclstok_76p1acc.pth', 'tiny'),
    'small': ('vim_s_midclstok_80p5acc.pth', 'small'),
    'base': ('vim_b_midclstok_81p9acc.pth', 'base'),
    'tiny_plus': ('vim_t_midclstok_ft_78p3acc.pth', 'tiny_plus'),
    'small_plus': ('vim_s_midclstok_ft_81p6acc.pth', 'small_plus'),
}


def official_shapes(name: str) -> dict[str, list[int]]:
    """Names and shapes of an official model such as ``'tiny_cls'``, ``'small_seg'``, ``'tiny_det'``."""
    return json.loads((_SHAPES / f'vim_{name}.shapes.json').read_text())


def official_state(name: str, depth: int = 24) -> dict[str, Tensor]:
    """A state dict of an official model, random, with its first blocks only if need be."""
    generator = torch.Generator().manual_seed(0)
    skipped = tuple(f'layers.{i}.' for i in range(depth, 24))
    state = {}
    for key, shape in official_shapes(name).items():
        if key.endswith('num_batches_tracked'):
            state[key] = torch.tensor(7)
        elif not key.removeprefix('net.').startswith(skipped):
            state[key] = torch.rand(shape, generator=generator)
    return state


def save_classifier(folder: Path, variant: str = 'tiny', depth: int = 24) -> Path:
    """Write the file of a published classifier, as its training script does."""
    path = folder / CLASSIFIERS[variant][0]
    args = argparse.Namespace(model='vim', lr=1e-3)
    torch.save({'model': official_state(f'{variant}_cls', depth), 'epoch': 299, 'args': args}, path)
    return path
