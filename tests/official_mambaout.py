"""The published MambaOut files: their names, and what stands in them."""

import json
from pathlib import Path

from torch import Tensor

_SHAPES = Path(__file__).parent / 'data' / 'mambaout'

#: Published variants: parameters of the classifier, GFLOPs at 224 x 224 to the digit that the authors' README gives.
VARIANTS = {
    'femto': (7_304_536, 1.2),
    'kobe': (9_141_208, 1.5),
    'tiny': (26_545_096, 4.5),
    'small': (48_488_072, 9.0),
    'base': (84_813_092, 15.8),
}


def classifier_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of an official classifier."""
    return json.loads((_SHAPES / f'mambaout_{arch}.shapes.json').read_text())


def as_in_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier of the authors under timm's names, renamed one module after the other."""
    renamed = {}
    for key, tensor in state.items():
        part, *rest = key.split('.')
        if part == 'downsample_layers':
            rest = ['stem', *rest[1:]] if rest[0] == '0' else ['stages', rest[0], 'downsample', *rest[1:]]
        elif part == 'stages':
            rest = ['stages', rest[0], 'blocks', *rest[1:]]
        elif part == 'norm':
            rest = ['head', 'norm', *rest]
        else:
            names = {'fc1': ['pre_logits', 'fc'], 'norm': ['pre_logits', 'norm'], 'fc2': ['fc']}
            rest = ['head', *names[rest[0]], rest[1]]
        renamed['.'.join(rest)] = tensor
    return renamed
