"""The published MambaVision files: their names, and what stands in them; listed from the package mambavision 1.2.0."""

import json
from pathlib import Path

_SHAPES = Path(__file__).parent / 'data' / 'mambavision'
#: What no number of parameters counts.
STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')

#: Published classifiers: file, millions of parameters and GFLOPs at 224 x 224 as the README gives them, rounded or cut.
VARIANTS = {
    'tiny': ('mambavision_tiny_1k.pth.tar', 31.8, 4.4),
    'tiny2': ('mambavision_tiny2_1k.pth.tar', 35.1, 5.1),
    'small': ('mambavision_small_1k.pth.tar', 50.1, 7.5),
    'base': ('mambavision_base_1k.pth.tar', 97.7, 15.0),
    'large': ('mambavision_large_1k.pth.tar', 227.9, 34.9),
    'large2': ('mambavision_large2_1k.pth.tar', 241.5, 37.5),
}


def classifier_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of an official classifier."""
    return json.loads((_SHAPES / f'mambavision_{arch}.shapes.json').read_text())


def dense_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official detector or segmentor."""
    shapes = {key: x for key, x in classifier_shapes(arch).items() if not key.startswith(('norm.', 'head.'))}
    width = shapes['patch_embed.conv_down.3.weight'][0]
    return shapes | {f'outnorm{i}.{leaf}': [width * 2**i] for i in range(4) for leaf in ('weight', 'bias')}
