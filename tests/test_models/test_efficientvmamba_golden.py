"""EfficientVMamba gives the numbers of the official code: weights drawn by name, outputs stored."""

import pytest
import torch
import torch.nn.functional as F
from fill import filled_state_dict, image
from golden import Golden
from official_efficientvmamba import classifier_shapes, dense_shapes

from mmvim.checkpoints import from_official
from mmvim.models import EfficientVMamba

RELATIVE, LARGEST = 1e-5, 1e-4


@pytest.mark.parametrize('name', ['efficientvmamba_tiny_dense_128x160', 'efficientvmamba_tiny_dense_100x140'])
def test_dense(name: str) -> None:
    """The second size is odd in every way: patches left out, halves rounded up, walks that end beside the map."""
    golden = Golden(name)
    backbone = EfficientVMamba('tiny').eval()
    backbone.load_state_dict(from_official(filled_state_dict(dense_shapes('tiny'))))
    with torch.no_grad():
        for i, out in enumerate(backbone(image(**golden.info['input']))):
            golden.assert_near(f'out{i}', out, RELATIVE, LARGEST)


def test_classification() -> None:
    golden = Golden('efficientvmamba_tiny_cls_224x224')
    state = from_official(filled_state_dict(classifier_shapes('tiny')))
    state['outnorm3.weight'], state['outnorm3.bias'] = (state.pop(f'classifier.norm.{x}') for x in ('weight', 'bias'))
    head = state.pop('classifier.head.weight'), state.pop('classifier.head.bias')
    backbone = EfficientVMamba('tiny', out_indices=3).eval()
    backbone.load_state_dict(state)
    with torch.no_grad():
        (out,) = backbone(image(**golden.info['input']))
        golden.assert_near('logits', F.linear(out.mean((2, 3)), *head), RELATIVE, LARGEST)
