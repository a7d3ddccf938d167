"""Pyramids over plain backbones; their numbers are held against the official code in test_vim_golden.py."""

import pytest
import torch

from mmvim.registry import MODELS


@pytest.mark.parametrize(('stride', 'sides'), [(16, (32, 16, 8, 4)), (8, (16, 8, 4, 2))])
def test_deconv_pyramid(stride, sides):
    neck = MODELS.build({'type': 'DeconvPyramid', 'in_channels': 8, 'patch_stride': stride, 'norm_cfg': {'type': 'BN'}})
    x = torch.rand(2, 8, 8, 8)
    outs = neck((x, x, x, x))
    assert [tuple(out.shape) for out in outs] == [(2, 8, side, side) for side in sides]
    torch.testing.assert_close(neck((x,)), outs)


def test_deconv_pyramid_refuses_other_numbers_of_maps():
    neck = MODELS.build({'type': 'DeconvPyramid', 'in_channels': 8, 'norm_cfg': {'type': 'BN'}})
    with pytest.raises(ValueError, match='expected 1 or 4 maps, got 2'):
        neck((torch.rand(1, 8, 4, 4),) * 2)
    with pytest.raises(ValueError, match='patch_stride=4: expected 16 or 8'):
        MODELS.build({'type': 'DeconvPyramid', 'in_channels': 8, 'patch_stride': 4})


@pytest.mark.parametrize('num_outs', [4, 5])
def test_simple_pyramid(num_outs):
    neck = MODELS.build({'type': 'SimplePyramid', 'in_channels': 16, 'out_channels': 12, 'num_outs': num_outs})
    outs = neck((torch.rand(1, 16, 6, 9),))
    sizes = [(24, 36), (12, 18), (6, 9), (3, 4), (2, 2)][:num_outs]
    assert [tuple(out.shape) for out in outs] == [(1, 12, *size) for size in sizes]


@pytest.mark.parametrize('name', ['DeconvPyramid', 'SimplePyramid'])
def test_a_single_patch(name):
    norm = {'norm_cfg': {'type': 'BN'}} if name == 'DeconvPyramid' else {}
    neck = MODELS.build({'type': name, 'in_channels': 8, **norm}).eval()
    assert all(out.numel() > 0 and out.isfinite().all() for out in neck((torch.rand(1, 8, 1, 1),)))


def test_simple_pyramid_refuses_other_numbers_of_outputs():
    with pytest.raises(ValueError, match='num_outs=3: expected 4 or 5'):
        MODELS.build({'type': 'SimplePyramid', 'in_channels': 8, 'num_outs': 3})
