"""Configs written for the official VMamba."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from official_vmamba import CLASSIFIERS

import mmvim.models  # noqa: F401  registers
from mmvim.models import VMamba
from mmvim.models.backbones.mm_vssm import from_official_config, is_gated

# As in upstream's dense configs.
CURRENT = {
    'ssm_d_state': 1,
    'ssm_dt_rank': 'auto',
    'ssm_conv': 3,
    'ssm_conv_bias': False,
    'forward_type': 'v05_noz',
    'mlp_ratio': 4.0,
    'downsample_version': 'v3',
    'patchembed_version': 'v2',
    'norm_layer': 'ln2d',
}
FIRST = {
    'ssm_d_state': 16,
    'ssm_dt_rank': 'auto',
    'ssm_ratio': 2.0,
    'mlp_ratio': 0.0,
    'downsample_version': 'v1',
    'patchembed_version': 'v1',
}
SWIN = {'embed_dims': 96, 'num_heads': [3, 6], 'with_cp': False, 'convert_weights': True, 'init_cfg': {'type': 'x'}}


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_published_models(arch: str) -> None:
    published = VMamba.arch_zoo[arch]
    options = FIRST if arch.startswith('v0') else {**CURRENT, 'ssm_ratio': published['ssm_ratio']}
    options = {**options, 'dims': published['embed_dims'], 'depths': published['depths'], 'drop_path_rate': 0.3}
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        built = MODELS.build({'type': 'mmvim.MM_VSSM', 'pretrained': '', **options, **SWIN})
        own = VMamba(arch)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in own.state_dict().items()}
    assert built.layers[3].blocks[1].drop_path.rate == pytest.approx(0.3)
    assert built.init_cfg is None


@pytest.mark.parametrize(
    ('forward_type', 'gated'),
    [('v0', True), ('v0seq', True), ('v05_noz', False), ('v3_noz', False), ('v2', True), ('v01_noz_no32', False)],
)
def test_forward_types(forward_type: str, gated: bool) -> None:
    assert is_gated(forward_type) is gated


@pytest.mark.parametrize(
    'forward_type', ['v052d_noz', 'v05_onnone_noz', 'v05_oact_noz', 'v05_nozact', 'm0_noz', 'xv1a']
)
def test_unsupported_forward_types(forward_type: str) -> None:
    with pytest.raises(ValueError, match=f"forward_type '{forward_type}': expected 'v0', or one of v01, v02"):
        is_gated(forward_type)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'downsample_version': 'v2'}, "downsample_version='v2': expected one of 'v1', 'v3'"),
        ({'downsample_version': 'v3', 'ssm_init': 'v9'}, "ssm_init='v9': expected one of 'v0', 'v1', 'v2'"),
        ({'ssm_conv': 1}, 'ssm_conv=1: only 3 is supported'),
        ({'downsample_version': 'v3', 'dims': (96, 96, 96, 96)}, 'twice as wide'),
        ({'downsample_version': 'v3', 'scans': 2}, 'unknown keywords of the official VMamba: scans'),
    ],
)
def test_unsupported_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_official_config(options)


def test_other_arguments() -> None:
    options = {**CURRENT, 'dims': (96, 192, 384, 768), 'pretrained': 'a.pth', 'ssm_init': 'v2', 'use_checkpoint': True}
    arguments = from_official_config({**options, 'ssm_act_layer': 'gelu', 'out_indices': (3,)})
    assert arguments['init_cfg'] == {'type': 'Pretrained', 'checkpoint': 'a.pth'}
    assert arguments['ssm_init'] == 'zero' and arguments['ssm_act'] == 'gelu' and arguments['with_cp']
    assert arguments['out_indices'] == (3,) and arguments['arch']['depths'] == (2, 2, 9, 2)
