"""PlainMamba gives the numbers of the official code: weights drawn by name, outputs stored."""

import pytest
import torch
from fill import filled_state_dict, image
from golden import Golden
from official_plainmamba import VARIANTS, adapter_shapes, dense_shapes

from mmvim.checkpoints import from_official
from mmvim.models import PlainMamba, PlainMambaAdapter

RELATIVE, LARGEST = 2e-5, 1e-4
QUIRKS = {'raster_parameters': True, 'double_dt_bias': True}


@pytest.mark.parametrize('name', ['plainmamba_l1_dense_224x224', 'plainmamba_l1_dense_128x160'])
def test_segmentation(name: str) -> None:
    golden = Golden(name)
    backbone = PlainMamba('l1', out_indices=VARIANTS['l1'][2], **QUIRKS).eval()
    backbone.load_state_dict(from_official(filled_state_dict(dense_shapes('l1'))))
    with torch.no_grad():
        outs = backbone(image(**golden.info['input']))
    for i, out in enumerate(outs):
        golden.assert_near(f'out{i}', out, RELATIVE, LARGEST)
    golden.assert_near('tokens_mean', outs[3].mean((2, 3)), RELATIVE, LARGEST)


@pytest.mark.parametrize('quirk', QUIRKS)
def test_published_weights_need_both_quirks(quirk: str) -> None:
    golden = Golden('plainmamba_l1_dense_128x160')
    backbone = PlainMamba('l1', out_indices=VARIANTS['l1'][2], **{**QUIRKS, quirk: False}).eval()
    backbone.load_state_dict(from_official(filled_state_dict(dense_shapes('l1'))))
    with torch.no_grad(), pytest.raises(AssertionError, match='relative L2'):
        golden.assert_near('out3', backbone(image(**golden.info['input']))[3], 1e-2)


def test_detection() -> None:
    golden = Golden('plainmamba_l1_adapter_128x160')
    backbone = PlainMambaAdapter('l1', **QUIRKS).eval()
    backbone.load_state_dict(from_official(filled_state_dict(adapter_shapes('l1'))))
    with torch.no_grad():
        for i, out in enumerate(backbone(image(**golden.info['input']))):
            golden.assert_near(f'out{i}', out, RELATIVE, 5e-4)
