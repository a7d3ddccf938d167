"""The published EfficientVMamba files: their names, and what stands in them."""

import json
from pathlib import Path

_SHAPES = Path(__file__).parent / 'data' / 'efficientvmamba'

#: Published classifiers: arch, file, parameters as the authors' training logs print them.
CLASSIFIERS = {
    'tiny': ('efficient_vmamba_tiny.ckpt', 6_493_660),
    'small': ('efficient_vmamba_small.ckpt', 11_273_688),
    'base': ('efficient_vmamba_base.ckpt', 33_717_136),
}


def classifier_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of an official classifier."""
    return json.loads((_SHAPES / f'efficientvmamba_{arch}.shapes.json').read_text())


def dense_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official detector: norms of the outputs, and no classifier."""
    shapes = {key: shape for key, shape in classifier_shapes(arch).items() if not key.startswith('classifier.')}
    last = classifier_shapes(arch)['classifier.norm.weight'][0]
    for i in range(4):
        width = [last // 2 ** (3 - i)]
        shapes |= {f'outnorm{i}.weight': width, f'outnorm{i}.bias': width}
    return shapes
