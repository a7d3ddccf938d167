"""The size of MambaOut and its operations as its authors count them, against the numbers that they publish.

They count a multiply-add once (torch twice) and 5 per element of a LayerNorm (torch none).
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from official_mambaout import VARIANTS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmvim.models import MambaOut

CONFIGS = Path(__file__).parents[2] / 'configs' / 'mambaout'
# Millions of parameters and GFLOPs of whole models, from the paper: at 512 x 2048, and at 800 x 1280.
SEGMENTORS = {'t': (54, 938), 's': (76, 1032), 'b': (112, 1178)}
DETECTORS = {'t': (43, 262), 's': (65, 354), 'b': (100, 495)}


def authors_count(model: nn.Module, image: Tensor) -> int:
    """Operations of a forward pass by the authors' rules."""
    norms = 0

    def see(module: nn.Module, args: tuple, out: Tensor) -> None:
        nonlocal norms
        norms += 5 * out.numel()

    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(see)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops() // 2 + norms


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('arch', VARIANTS)
def test_classifiers(arch: str) -> None:
    with torch.device('meta'):
        mambaout, image = MambaOut(arch, out_indices=3).eval(), torch.rand(1, 3, 224, 224)
        C = mambaout.dims[-1]
        # The last norm of the classifier counts as that of the output, which has its size.
        head = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.LayerNorm(4 * C), nn.Linear(4 * C, 1000))
        vector = torch.rand(1, C)
    size, operations = VARIANTS[arch]
    assert parameters(mambaout) + parameters(head) == size
    assert round((authors_count(mambaout, image) + authors_count(head, vector)) / 1e9, 1) == operations


@pytest.mark.parametrize('variant', SEGMENTORS)
def test_segmentors(variant: str) -> None:
    cfg = Config.fromfile(CONFIGS / f'upernet_mambaout_{variant}_ade20k.py')
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        image = torch.rand(1, 3, 512, 2048)
    size, operations = parameters(model) / 1e6, authors_count(model, image) / 1e9
    assert (round(size), round(operations)) == SEGMENTORS[variant]


class DetectorPasses(nn.Module):
    """What the count of a detector covers: 1000 boxes through the box head and 100 through the mask head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> None:
        maps = self.model.neck(self.model.backbone(image))
        self.model.rpn_head(maps)
        self.model.roi_head.bbox_head(image.new_empty(1000, 256, 7, 7))
        self.model.roi_head.mask_head(image.new_empty(100, 256, 14, 14))


@pytest.mark.parametrize('variant', DETECTORS)
def test_detectors(variant: str) -> None:
    cfg = Config.fromfile(CONFIGS / f'mask_rcnn_mambaout_{variant}_coco.py')
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        passes = DetectorPasses(MODELS.build(cfg.model).eval())
        image = torch.rand(1, 3, 800, 1280)
    size, operations = parameters(passes) / 1e6, authors_count(passes, image) / 1e9
    assert (round(size), round(operations)) == DETECTORS[variant]
