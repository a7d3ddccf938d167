"""The official VMamba's name and keywords for its backbone, so that configs written for it go on working."""

import re
from collections.abc import Mapping
from typing import Any

from mmvim.errors import UserValueError
from mmvim.registry import register_backbone

from .vmamba import VMamba

_INITS = {'v0': 'mamba', 'v1': 'random', 'v2': 'zero'}
_PATCH_EMBEDS = {'v1': 'plain', 'v2': 'overlapping'}
_DOWNSAMPLES = {'v1': 'merge', 'v3': 'conv'}
# What upstream computes alike under several names of its kernels.
_SCANS = ('v01', 'v02', 'v03', 'v04', 'v05', 'v2', 'v3')
# Upstream's defaults, and at the same time all that is supported of these keywords.
_FIXED = {
    'patch_size': 4, 'ssm_conv': 3, 'ssm_drop_rate': 0.0, 'mlp_drop_rate': 0.0, 'gmlp': False, 'patch_norm': True,
    'posembed': False,
}  # fmt: skip
# Without effect upstream; the lower rows are Swin's, which upstream's configs inherit and never delete.
_IGNORED = {
    'imgsize', 'num_classes', 'norm_layer',
    'embed_dims', 'num_heads', 'window_size', 'qkv_bias', 'qk_scale', 'drop_rate', 'attn_drop_rate', 'with_cp',
    'convert_weights', 'init_cfg', 'pretrain_img_size', 'strides', 'use_abs_pos_embed', 'act_cfg', 'norm_cfg',
}  # fmt: skip


def is_gated(forward_type: str) -> bool:
    """Whether a ``forward_type`` of the official code means SS2D with a gate.

    It names a kernel and, behind it, variations; all kernels give the same numbers.

    Raises:
        ValueError: If it means something that is not supported here.
    """
    if forward_type in ('v0', 'v0seq'):
        return True
    # _no32 keeps half precision in front of the scan, which here is the kernel's matter.
    match = re.fullmatch(rf'({"|".join(_SCANS)})(_noz)?(_no32)?', forward_type)
    if not match:
        raise UserValueError(
            f"forward_type {forward_type!r}: expected 'v0', or one of {', '.join(_SCANS)} with or without _noz"
        )
    return match[2] is None


def from_official_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of our ``VMamba`` from those of the official backbone.

    Args:
        options: The keywords without ``type``. Where one is missing, upstream's default holds.

    Returns:
        Keyword arguments with an arch dict.

    Raises:
        ValueError: If a keyword is unknown, or asks for what none of the published models has.
    """
    options = dict(options)
    for key, value in _FIXED.items():
        if (given := options.pop(key, value)) != value:
            raise UserValueError(f'{key}={given!r}: only {value!r} is supported, which all published models have')
    depths = tuple(options.pop('depths', (2, 2, 9, 2)))
    dims = options.pop('dims', (96, 192, 384, 768))
    first = dims if isinstance(dims, int) else dims[0]
    if dims not in (first, [first * 2**i for i in range(len(depths))], tuple(first * 2**i for i in range(len(depths)))):
        raise UserValueError(f'dims {dims}: expected each stage to be twice as wide as the one before')
    rank = options.pop('ssm_dt_rank', 'auto')
    arch = {
        'embed_dims': first,
        'depths': depths,
        'ssm_ratio': options.pop('ssm_ratio', 2.0),
        'd_state': options.pop('ssm_d_state', 16),
        'dt_rank': None if rank == 'auto' else rank,
        'gate': is_gated(options.pop('forward_type', 'v2')),
        'conv_bias': options.pop('ssm_conv_bias', True),
        'mlp_ratio': options.pop('mlp_ratio', 4.0),
        'patch_embed': _version(_PATCH_EMBEDS, options, 'patchembed_version', 'v1'),
        'downsample': _version(_DOWNSAMPLES, options, 'downsample_version', 'v2'),
    }
    pretrained = options.pop('pretrained', None)
    arguments = {
        'arch': arch,
        'in_channels': options.pop('in_chans', 3),
        'out_indices': options.pop('out_indices', (0, 1, 2, 3)),
        'ssm_act': options.pop('ssm_act_layer', 'silu'),
        'mlp_act': options.pop('mlp_act_layer', 'gelu'),
        'ssm_init': _version(_INITS, options, 'ssm_init', 'v0'),
        'drop_path_rate': options.pop('drop_path_rate', 0.1),
        'with_cp': options.pop('use_checkpoint', False),
        'frozen_stages': options.pop('frozen_stages', -1),
        'init_cfg': {'type': 'Pretrained', 'checkpoint': pretrained} if pretrained else None,
    }
    unknown = sorted(set(options) - _IGNORED)
    if unknown:
        raise UserValueError(f'unknown keywords of the official VMamba: {", ".join(unknown)}')
    return arguments


def _version(meanings: Mapping[str, str], options: dict[str, Any], key: str, default: str) -> str:
    version = options.pop(key, default)
    if version not in meanings:
        raise UserValueError(f'{key}={version!r}: expected one of {", ".join(map(repr, meanings))}')
    return meanings[version]


@register_backbone
def MM_VSSM(**options: Any) -> VMamba:
    """:class:`VMamba` from the keywords of the official backbone.

    Args:
        options: See :func:`from_official_config`.
    """
    return VMamba(**from_official_config(options))
