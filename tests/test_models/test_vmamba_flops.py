"""The operations of VMamba, counted by the rule of mmvim.analysis.flops, against what its authors publish."""

from pathlib import Path

import pytest
import torch
from detector_passes import DetectorPasses
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmvim.analysis.flops import count_operations
from mmvim.models import VMamba

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


@pytest.mark.parametrize('arch', CLASSIFIERS)
def test_classifiers(arch: str) -> None:
    with torch.device('meta'):
        vmamba, image = VMamba(arch, out_indices=3).eval(), torch.rand(1, 3, 224, 224)
    head = 1000 * vmamba.dims[-1]
    assert round((count_operations(vmamba, image)['total'] + head) / 1e9, 1) == CLASSIFIERS[arch]


@pytest.mark.parametrize('variant', SEGMENTORS)
def test_segmentors(variant: str) -> None:
    """A thousandth is missing: they count the pooling and the resizing in the head too."""
    cfg = Config.fromfile(CONFIGS / f'upernet_vmamba_{variant}_ade20k.py')
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        image = torch.rand(1, 3, 512, 2048)
    assert count_operations(model, image)['total'] / 1e9 == pytest.approx(SEGMENTORS[variant], rel=2e-3)


@pytest.mark.parametrize('variant', DETECTORS)
def test_detectors(variant: str) -> None:
    cfg = Config.fromfile(CONFIGS / f'mask_rcnn_vmamba_{variant}_coco.py')
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        passes = DetectorPasses(MODELS.build(cfg.model).eval())
        image = torch.rand(1, 3, 800, 1280)
    assert count_operations(passes, image)['total'] / 1e9 == pytest.approx(DETECTORS[variant], rel=1e-3)
