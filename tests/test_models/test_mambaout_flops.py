"""The size of MambaOut and its operations, by the rule of mmvim.analysis.flops, against what its authors publish."""

from pathlib import Path

import pytest
import torch
from detector_passes import DetectorPasses
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from official_mambaout import VARIANTS
from torch import nn

from mmvim.analysis.flops import count_operations
from mmvim.models import MambaOut

CONFIGS = Path(__file__).parents[2] / 'configs' / 'mambaout'
# Millions of parameters and GFLOPs of whole models, from the paper: at 512 x 2048, and at 800 x 1280.
SEGMENTORS = {'t': (54, 938), 's': (76, 1032), 'b': (112, 1178)}
DETECTORS = {'t': (43, 262), 's': (65, 354), 'b': (100, 495)}


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
    assert (
        round((count_operations(mambaout, image)['total'] + count_operations(head, vector)['total']) / 1e9, 1)
        == operations
    )


@pytest.mark.parametrize('variant', SEGMENTORS)
def test_segmentors(variant: str) -> None:
    cfg = Config.fromfile(CONFIGS / f'upernet_mambaout_{variant}_ade20k.py')
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        image = torch.rand(1, 3, 512, 2048)
    size, operations = parameters(model) / 1e6, count_operations(model, image)['total'] / 1e9
    assert (round(size), round(operations)) == SEGMENTORS[variant]


@pytest.mark.parametrize('variant', DETECTORS)
def test_detectors(variant: str) -> None:
    cfg = Config.fromfile(CONFIGS / f'mask_rcnn_mambaout_{variant}_coco.py')
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        passes = DetectorPasses(MODELS.build(cfg.model).eval())
        image = torch.rand(1, 3, 800, 1280)
    size, operations = parameters(passes) / 1e6, count_operations(passes, image)['total'] / 1e9
    assert (round(size), round(operations)) == DETECTORS[variant]
