"""The published PlainMamba files: their names, and what stands in them."""

import json
from pathlib import Path

_SHAPES = Path(__file__).parent / 'data' / 'plainmamba'

#: Published variants: our name for the classifier's file, parameters of its backbone, blocks that segmentation taps.
VARIANTS = {
    'l1': ('plainmamba_l1.pth', 7_358_656, (5, 11, 17, 23)),
    'l2': ('plainmamba_l2.pth', 25_760_832, (5, 11, 17, 23)),
    'l3': ('plainmamba_l3.pth', 50_507_456, (8, 17, 26, 35)),
}


def backbone_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official classifier."""
    return json.loads((_SHAPES / f'plainmamba_{arch}.shapes.json').read_text())


def classifier_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of an official classifier."""
    shapes = {f'backbone.{key}': shape for key, shape in backbone_shapes(arch).items()}
    return {**shapes, 'head.fc.weight': [1000, *shapes['backbone.ln1.weight']], 'head.fc.bias': [1000]}


def adapter_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official detector."""
    return json.loads((_SHAPES / f'plainmamba_{arch}_adapter.shapes.json').read_text())


def dense_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official segmentor: norms of three more outputs."""
    shapes = backbone_shapes(arch)
    for i in VARIANTS[arch][2][:3]:
        shapes |= {f'norm_layer{i}.{leaf}': shapes['ln1.weight'] for leaf in ('weight', 'bias')}
    return shapes
