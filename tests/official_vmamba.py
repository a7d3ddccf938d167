"""The published VMamba files: their names, and what stands in them."""

import json
from pathlib import Path

_SHAPES = Path(__file__).parent / 'data' / 'vmamba'

#: Published classifiers: arch and file.
CLASSIFIERS = {
    'tiny_s1l8': 'vssm1_tiny_0230s_ckpt_epoch_264.pth',
    'tiny_s2l5': 'vssm_tiny_0230_ckpt_epoch_262.pth',
    'small_s2l15': 'vssm_small_0229_ckpt_epoch_222.pth',
    'base_s2l15': 'vssm_base_0229_ckpt_epoch_237.pth',
    'small_s1l20': 'vssm1_small_0229s_ckpt_epoch_240.pth',
    'base_s1l20': 'vssm1_base_0229s_ckpt_epoch_225.pth',
    'v0_tiny': 'vssmtiny_dp01_ckpt_epoch_292.pth',
    'v0_small': 'vssmsmall_dp03_ckpt_epoch_238.pth',
    'v0_base': 'vssmbase_dp06_ckpt_epoch_241.pth',
}


def classifier_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of an official classifier."""
    return json.loads((_SHAPES / f'vmamba_{arch}_cls.shapes.json').read_text())


def dense_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official detector or segmentor."""
    shapes = {key: shape for key, shape in classifier_shapes(arch).items() if not key.startswith('classifier.')}
    for i in range(4):
        width = shapes[f'layers.{i}.blocks.0.norm.weight']
        shapes |= {f'outnorm{i}.weight': width, f'outnorm{i}.bias': width}
    return shapes
