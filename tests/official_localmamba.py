"""The published LocalMamba files: their names, and what stands in them."""

import json
from pathlib import Path

_SHAPES = Path(__file__).parent / 'data' / 'localmamba'

#: Published classifiers: file -> name in tests/data, and whether it is the one with a class token.
LOCALVIM = {
    'local_vim_tiny.ckpt': ('tiny', False),
    'local_vim_tiny_middle_cls_token.ckpt': ('tiny', True),
    'local_vim_small.ckpt': ('small', False),
}
LOCALVMAMBA = {'local_vssm_tiny.ckpt': 'tiny', 'local_vssm_small.ckpt': 'small'}


def localvim_shapes(arch: str, class_token: bool = False) -> dict[str, list[int]]:
    """Names and shapes of an official LocalVim classifier."""
    shapes = _read(f'localvim_{arch}')
    if class_token:
        width = shapes['norm_f.weight'][0]
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith('rope.')}
        shapes |= {'cls_token': [1, 1, width], 'pos_embed': [1, 197, width]}
    return shapes


def localvim_dense_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official detector or segmentor with four outputs."""
    shapes = _read(f'localvim_{arch}')
    width = shapes.pop('norm_f.weight')
    shapes = {key: shape for key, shape in shapes.items() if not key.startswith('head.')}
    shapes |= {f'layers.{i}.norm.bias': width for i in range(20)}
    return shapes | {f'outnorm_{n}.{leaf}': width for n in range(4) for leaf in ('weight', 'bias')}


def localvmamba_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of an official LocalVMamba classifier."""
    return _read(f'localvmamba_{arch}')


def localvmamba_dense_shapes(arch: str) -> dict[str, list[int]]:
    """Names and shapes of the backbone in an official detector or segmentor."""
    shapes = {key: shape for key, shape in _read(f'localvmamba_{arch}').items() if not key.startswith('classifier.')}
    for i in range(4):
        width = shapes[f'layers.{i}.blocks.0.norm.weight']
        shapes |= {f'outnorm{i}.weight': width, f'outnorm{i}.bias': width}
    return shapes


def _read(name: str) -> dict[str, list[int]]:
    return json.loads((_SHAPES / f'{name}.shapes.json').read_text())
