"""Vim's published layouts to ours and back.

Officially the two directions of a block have parameters of their own, the backward ones marked by ``_b``; ours are
stacked, forward first. The official dense models keep their pyramid inside the backbone (``fpn1``, ``simfp_2``), the
detection model moreover keeps the blocks under ``net.``; ours is a neck. Nothing else differs, so that converting
there and back gives the same file.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .pos_embed import check_pos_embed, resize_pos_embed

NAME = 'Vim'

#: Names of the stacked parameters of a mixer, and the official names of their two parts.
_STACKED = {
    'conv1d_weight': ('conv1d.weight', 'conv1d_b.weight'),
    'conv1d_bias': ('conv1d.bias', 'conv1d_b.bias'),
    'x_proj_weight': ('x_proj.weight', 'x_proj_b.weight'),
    'dt_projs_weight': ('dt_proj.weight', 'dt_proj_b.weight'),
    'dt_projs_bias': ('dt_proj.bias', 'dt_proj_b.bias'),
    'A_logs': ('A_log', 'A_b_log'),
    'Ds': ('D', 'D_b'),
}
_PART = {part: (ours, k) for ours, parts in _STACKED.items() for k, part in enumerate(parts)}
_MIXER = re.compile(r'(?P<block>.*\blayers\.\d+\.mixer\.)(?P<leaf>.+)')
_OFFICIAL_NECK = re.compile(r'(?:backbone\.)?(?P<key>(?:fpn[12]|simfp_\d)\..+)')

#: What a file may hold beyond a backbone, and why it is left out.
LEFT_OUT = {
    r'head\.': 'classifier',
    r'norm_f\.': 'the model uses no final norm',
    r'cls_token$': 'the model has no class token',
    r'rope\.': 'computed',
    r'neck\.': 'neck',
}

_WIDTHS = {192: 'Tiny', 384: 'Small', 768: 'Base'}
# Rows of the position embedding at 224 x 224 without the class token, and the patch stride that this means.
_STRIDES = {14 * 14: 16, 27 * 27: 8}


def is_family(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a Vim, in the official layout or in ours."""
    return any(key.endswith(('.mixer.A_b_log', '.mixer.A_logs')) for key in state)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and stack the tensors of an official Vim; what is in our layout already stays as it is.

    Args:
        state: a state dict of the classifier, of a dense backbone, or of a whole segmentor or detector.

    Returns:
        A new dict. Class token, classifier and RoPE tables stay in it: leaving out is up to the loader.

    Raises:
        ValueError: if one direction of a pair is missing or the two differ in shape.
    """
    converted: dict[str, Tensor] = {}
    for key, tensor in state.items():
        mixer, neck = _MIXER.fullmatch(key), _OFFICIAL_NECK.fullmatch(key)
        if neck:
            converted['neck.' + neck['key']] = tensor
        elif mixer and mixer['leaf'] in _PART:
            ours, k = _PART[mixer['leaf']]
            if k == 0:
                converted[_without_net(mixer['block']) + ours] = _stack(state, mixer['block'], ours)
            elif mixer['block'] + _STACKED[ours][0] not in state:
                raise ValueError(f'{key} has no forward partner {mixer["block"] + _STACKED[ours][0]} in this file')
        else:
            converted[_without_net(key)] = tensor
    return converted


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`.

    A state dict with a simple pyramid gets the names of the official detector (``net.``), any other those of the
    classifier and the segmentation backbone.
    """
    root = 'backbone.' if any(key.startswith('backbone.') for key in state) else ''
    net = root + 'net.' if any(key.startswith('neck.simfp_') for key in state) else root
    official: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(('neck.fpn', 'neck.simfp_')):
            official[root + key.removeprefix('neck.')] = tensor
            continue
        if key.startswith(root):
            key = net + key.removeprefix(root)
        mixer = _MIXER.fullmatch(key)
        if mixer and mixer['leaf'] in _STACKED:
            for part, values in zip(_STACKED[mixer['leaf']], tensor, strict=True):
                values = values.unsqueeze(1) if mixer['leaf'] == 'conv1d_weight' else values
                official[mixer['block'] + part] = values.clone()
        else:
            official[key] = tensor
    return official


def _without_net(key: str) -> str:
    return re.sub(r'^(backbone\.)?net\.', r'\1', key)


def _stack(state: Mapping[str, Tensor], block: str, ours: str) -> Tensor:
    first, second = (block + part for part in _STACKED[ours])
    if second not in state:
        raise ValueError(f'{first} has no backward partner {second} in this file')
    if state[first].shape != state[second].shape:
        raise ValueError(f'{first} {tuple(state[first].shape)} and {second} {tuple(state[second].shape)} must agree')
    stacked = torch.stack([state[first], state[second]])
    return stacked.squeeze(2) if ours == 'conv1d_weight' else stacked


def describe(state: Mapping[str, Tensor], stride: int | None = None) -> str:
    """Say which Vim a backbone's state dict (our layout, no prefix) belongs to, such as 'Vim-Small (384 wide, ...)'.

    Args:
        state: the state dict.
        stride: of the patches, where it is known; otherwise it is told from a position embedding made at 224 x 224.
    """
    proj = state.get('patch_embed.proj.weight')
    width = 'unknown' if proj is None else proj.shape[0]
    depth = 1 + max((int(key.split('.')[1]) for key in state if key.startswith('layers.')), default=-1)
    stride = stride or _file_stride(state)
    name = _WIDTHS.get(width) if depth == 24 else None
    name = f'Vim-{name}{"+" if stride == 8 else ""}' if name else 'a Vim'
    return f'{name} ({width} wide, {depth} deep' + (f', patch stride {stride})' if stride else ')')


def adapt(found: dict[str, Tensor], own: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> list[str]:
    """Fit the position embedding and the class token of a file to a backbone, in place.

    The class token stands in the middle of the sequence, and so does its row of the position embedding: of M patches
    at index M // 2. A model without class token gets the table without that row. The table is resized to the model's.

    Args:
        found: the backbone's tensors in the file, our layout, no prefix. ``pos_embed`` is replaced.
        own: the model's state dict.
        grid: (h, w) of the model's own table; a square by default.

    Returns:
        What was done, in words.

    Raises:
        ValueError: if the table is none, or of no square grid and of another size than the model's.
    """
    if 'pos_embed' not in found or 'pos_embed' not in own:
        return []
    check_pos_embed(found['pos_embed'])
    if found['pos_embed'].shape[2] != own['pos_embed'].shape[2]:
        return []
    file_row, patches = _split_class_row(found['pos_embed'], 'cls_token' in found)
    own_row, own_patches = _split_class_row(own['pos_embed'], 'cls_token' in own)
    new = grid or _square(own_patches.shape[1])
    old = new if patches.shape[1] == own_patches.shape[1] else _square(patches.shape[1])
    if old is None or new is None:
        raise ValueError(
            f'pos_embed of {patches.shape[1]} patches, no square, cannot be resized to {own_patches.shape[1]}'
        )
    done = [] if old == new else [f'position embedding {old[0]} x {old[1]} resized to {new[0]} x {new[1]}']
    patches = resize_pos_embed(patches, old, new)
    if 'cls_token' in own:
        middle = patches.shape[1] // 2
        row = own_row if file_row is None else file_row
        patches = torch.cat([patches[:, :middle], row.to(patches), patches[:, middle:]], 1)
    elif file_row is not None:
        done.append('row of the class token taken out of the position embedding')
    found['pos_embed'] = patches
    return done


def stride_conflict(found: Mapping[str, Tensor], own: Mapping[str, Tensor], stride: int | None) -> bool:
    """Whether a file was made for another patch stride than a model's, as its position embedding tells."""
    file_stride = _file_stride(found)
    return stride in _STRIDES.values() and file_stride not in (None, stride) and _patches(found) != _patches(own)


def _split_class_row(table: Tensor, has_class: bool) -> tuple[Tensor | None, Tensor]:
    if not has_class:
        return None, table
    middle = (table.shape[1] - 1) // 2
    return table[:, middle : middle + 1], torch.cat([table[:, :middle], table[:, middle + 1 :]], 1)


def _square(rows: int) -> tuple[int, int] | None:
    side = round(rows**0.5)
    return (side, side) if side * side == rows else None


def _patches(state: Mapping[str, Tensor]) -> int | None:
    """Rows of the position embedding without that of the class token."""
    table = state.get('pos_embed')
    return None if table is None or table.ndim != 3 else table.shape[1] - ('cls_token' in state)


def _file_stride(state: Mapping[str, Tensor]) -> int | None:
    return _STRIDES.get(_patches(state))
