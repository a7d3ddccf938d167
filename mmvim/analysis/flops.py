"""Operations of a forward pass, scans included, by the rule that publications on these models follow."""

import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

RULE = (
    '1 per multiply-add of convolutions, matrix products and attention; 9 N + 1 per token, channel and walk of a scan '
    'with N states (the 1 for its skip connection), and R more where it projects steps of rank R; 5 per element of a '
    'LayerNorm; 0 for everything else. So count the authors of VMamba.'
)


def count_operations(model: nn.Module, *inputs: Any) -> dict[str, int]:
    """Count what one call of ``model`` computes, by :data:`RULE`.

    On the device ``meta`` nothing is computed and no memory is needed, however large the image.

    Returns:
        Operations of each kind, ``'convolutions'``, ``'products'`` (attention too), ``'scans'``, ``'norms'``, and the
        ``'total'``.
    """
    # torch counts a multiply-add twice, and scans count so too (mmvim.ops.library); here all is halved.
    own = {torch.ops.aten.native_layer_norm: lambda x, *_, **__: 2 * 5 * math.prod(x)}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=own) as counter:
        model(*inputs)
    kinds = dict.fromkeys(('convolutions', 'products', 'scans', 'norms'), 0)
    for operator, count in counter.get_flop_counts()['Global'].items():
        kinds[_kind(str(operator))] += count // 2
    return {**kinds, 'total': sum(kinds.values())}


def _kind(operator: str) -> str:
    if 'mmvim.scan' in operator:
        return 'scans'
    if 'layer_norm' in operator:
        return 'norms'
    return 'convolutions' if 'conv' in operator else 'products'
