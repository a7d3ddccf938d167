"""A training step of a stock config of mmdet or mmseg with some lines of a user's own."""

from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

IMPORTS = "custom_imports = dict(imports=['mmvim'], allow_failed_imports=False)\n"


def detection_step(stock: str, lines: str, folder: Path) -> None:
    """Train a detector of mmdet for a step, ``folder`` being for the config."""
    from mmdet.testing import demo_mm_inputs

    torch.manual_seed(0)
    model = _build(f'mmdet::{stock}', lines, folder, 'mmdet')
    _check_step(model, demo_mm_inputs(2, (3, 96, 128), num_items=[2, 3], num_classes=80, with_mask=True))


def segmentation_step(stock: str, lines: str, folder: Path) -> None:
    """Train a segmentor of mmseg for a step, ``folder`` being for the config."""
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    # The forks' mmseg is not found under `mmseg::`.
    configs = Path(find_spec('mmseg').origin).parent / '.mim' / 'configs'
    model = _build(str(configs / stock), lines, folder, 'mmseg')
    model.data_preprocessor.size = (64, 96)
    labels = torch.randint(0, 150, (2, 1, 64, 96))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    _check_step(model, {'inputs': list(images), 'data_samples': samples})


def _build(base: str, lines: str, folder: Path, scope: str) -> torch.nn.Module:
    config = folder / 'config.py'
    config.write_text(f'_base_ = {base!r}\n{IMPORTS}\n{lines}')
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    # Some of mmdet's tensors have no values before. No weights are downloaded: these configs name no file.
    model.init_weights()
    return model


def _check_step(model: torch.nn.Module, data: dict) -> None:
    """A finite loss, and a gradient for every parameter of the backbone."""
    data = model.data_preprocessor(data, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss)
    loss.backward()
    without = [name for name, p in model.backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
