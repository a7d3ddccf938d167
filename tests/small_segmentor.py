"""A segmentor of the size of nothing, for tests of large images."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import MODELS, DefaultScope

from mmvim.inference.inferencer import build_inferencer

ROOT = Path(__file__).resolve().parents[1]


def write_segmentor(folder: Path, channels: int = 3) -> Path:
    """A config and a checkpoint, ``segmentor.py`` and ``.pth``, with random weights for so many channels."""
    config = folder / 'segmentor.py'
    norm = 'data_preprocessor=dict(mean=[120.0], std=[60.0]),' if channels != 3 else ''
    config.write_text(f"""
_base_ = '{ROOT}/configs/demo/upernet_vim_t_miniature.py'
model = dict(
    {norm}
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, depth=4, patch_size=16, patch_stride=16), out_indices=(0, 1, 2, 3),
        in_channels={channels},
    ),
    neck=dict(in_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
    auxiliary_head=dict(in_channels=16),
)
""")
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, folder / 'segmentor.pth')
    return config


def load(config: Path) -> BaseInferencer:
    """The inferencer of a config that :func:`write_segmentor` wrote."""
    return build_inferencer(Config.fromfile(config), str(config.with_suffix('.pth')), 'cpu')
