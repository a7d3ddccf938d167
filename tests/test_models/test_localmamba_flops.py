"""The operations of LocalVMamba, counted by the rule of mmvim.analysis.flops, against what its authors publish.

LocalVim's authors publish fewer operations than its scans and products have: 1.5 and 4.8 G of 2.2 and 6.4 G.
"""

from pathlib import Path

import pytest
import torch
from detector_passes import DetectorPasses
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmvim.analysis.flops import count_operations
from mmvim.catalogue import MODELS as RECORDS
from mmvim.models import LocalVMamba

ROOT = Path(__file__).parents[2]
DENSE = [model for model in RECORDS if model.family == 'LocalVMamba' and model.task != 'imagenet']


@pytest.mark.parametrize(('arch', 'published'), [('tiny', 5.7), ('small', 11.4)])
def test_classifiers(arch: str, published: float) -> None:
    with torch.device('meta'):
        backbone, image = LocalVMamba(arch, out_indices=3).eval(), torch.rand(1, 3, 224, 224)
    assert round((count_operations(backbone, image)['total'] + 1000 * 768) / 1e9, 1) == published


@pytest.mark.parametrize('model', [model for model in DENSE if '3x' not in model.name], ids=lambda model: model.name)
def test_dense_models(model) -> None:
    cfg = Config.fromfile(ROOT / model.config)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        module = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        image = torch.rand(1, 3, *map(int, model.flops.size.split(' x ')))
    module = DetectorPasses(module) if model.task == 'det' else module
    assert count_operations(module, image)['total'] / 1e9 == pytest.approx(model.flops.billions, rel=1e-2)
