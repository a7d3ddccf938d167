"""The operations of VMamba as its authors count them, against the numbers that they publish.

They count a multiply-add once (torch twice), 5 per element of a LayerNorm (torch none), and for a scan 9 per walk,
token, channel and state and 1 for the skip, as :mod:`mmvim.ops` does. Our scan projects the steps as well, with two
operations per multiply-add.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmvim.models import VMamba
from mmvim.models.layers import SS2D

CONFIGS = Path(__file__).parents[2] / 'configs' / 'vmamba'
# GFLOPs of the classifier at 224 x 224, to the digit that the README of the official repository gives.
CLASSIFIERS = {
    'tiny_s1l8': 4.9,
    'tiny_s2l5': 4.9,
    'small_s2l15': 8.7,
    'base_s2l15': 15.4,
    'small_s1l20': 8.6,
    'base_s1l20': 15.2,
    'v0_tiny': 5.6,
    'v0_small': 11.2,
    'v0_base': 18.0,
}
# GFLOPs of whole models at 512 x 2048, as their script prints them.
SEGMENTORS = {'t': 948.78, 't_s2l5': 947.78, 's': 1028.40, 'b': 1170.34}
# GFLOPs of Mask R-CNN at 1280 x 800. For S their README says 384, their script counts 348.92.
DETECTORS = {'t': 271.16, 't_s2l5': 270.19, 's': 348.92, 'b': 485.50}


def authors_count(model: nn.Module, image: Tensor) -> int:
    """Operations of a forward pass by the authors' rules."""
    norms = steps = 0

    def see(module: nn.Module, args: tuple, out: Tensor) -> None:
        nonlocal norms, steps
        if isinstance(module, SS2D):
            channels = module.out_norm.normalized_shape[0]
            steps += 4 * args[0].shape[:3].numel() * channels * module.dt_rank
        else:
            norms += 5 * out.numel()

    for module in model.modules():
        if isinstance(module, (SS2D, nn.LayerNorm)):
            module.register_forward_hook(see)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    counts = counter.get_flop_counts()['Global']
    scans = counts.pop(torch.ops.mmvim.scan) - 2 * steps
    return sum(counts.values()) // 2 + steps + scans + norms


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_classifiers(arch: str) -> None:
    with torch.device('meta'):
        vmamba, image = VMamba(arch, out_indices=3).eval(), torch.rand(1, 3, 224, 224)
    head = 1000 * vmamba.dims[-1]
    assert round((authors_count(vmamba, image) + head) / 1e9, 1) == CLASSIFIERS[arch]


@pytest.mark.parametrize('variant', SEGMENTORS)
def test_segmentors(variant: str) -> None:
    """A thousandth is missing: they count the pooling and the resizing in the head too."""
    cfg = Config.fromfile(CONFIGS / f'upernet_vmamba_{variant}_ade20k.py')
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        image = torch.rand(1, 3, 512, 2048)
    assert authors_count(model, image) / 1e9 == pytest.approx(SEGMENTORS[variant], rel=2e-3)


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
    cfg = Config.fromfile(CONFIGS / f'mask_rcnn_vmamba_{variant}_coco.py')
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        passes = DetectorPasses(MODELS.build(cfg.model).eval())
        image = torch.rand(1, 3, 800, 1280)
    assert authors_count(passes, image) / 1e9 == pytest.approx(DETECTORS[variant], rel=1e-3)
