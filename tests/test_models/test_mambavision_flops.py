"""The size of MambaVision and its operations against what its authors publish of the classifiers."""

import pytest
import torch
from official_mambavision import STATISTICS, VARIANTS, classifier_shapes

from mmvim.analysis.flops import count_operations
from mmvim.models import MambaVision
from mmvim.models.backbones.deit import Attention


@pytest.mark.parametrize('arch', VARIANTS)
def test_classifiers(arch: str) -> None:
    with torch.device('meta'):
        mambavision, image = MambaVision(arch, out_norm=False).eval(), torch.rand(1, 3, 224, 224)
        operations = count_operations(mambavision, image)['total']
    _, millions, giga = VARIANTS[arch]
    shapes = {key: x for key, x in classifier_shapes(arch).items() if not key.endswith(STATISTICS)}
    size = sum(torch.Size(shape).numel() for shape in shapes.values())
    channels = mambavision.dims[-1]
    assert sum(p.numel() for p in mambavision.parameters()) + channels * 1002 + 1000 == size
    # The README's numbers have one digit, which is rounded in some and cut in others.
    assert size / 1e6 == pytest.approx(millions, abs=0.1)
    # They leave out what attention itself computes, two products of L x L x C in a window.
    attention = sum(
        2 * level.window**4 * dims * sum(isinstance(block.mixer, Attention) for block in level.blocks)
        for level, dims in zip(mambavision.levels[2:], mambavision.dims[2:], strict=True)
    )
    assert (operations - attention + channels * 1000) / 1e9 == pytest.approx(giga, abs=0.1)
