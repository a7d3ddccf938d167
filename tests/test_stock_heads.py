"""Vim under ten heads of mmdet and mmseg: stock configs with the backbone and channel lines changed, as users do.

A plain backbone has maps of one stride. Where a head wants a pyramid, ``mmvim.DeconvPyramid`` stands in front of the
stock neck: a list of necks is a sequence. What is not about channels (number of queries, size of the padding) only
makes the test small.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

C = 32
HEADER = """
custom_imports = dict(imports=['mmvim'], allow_failed_imports=False)
backbone = dict(
    _delete_=True,
    type='mmvim.Vim',
    arch=dict(embed_dims=32, depth=4, patch_size=16, patch_stride=16),
    out_indices=(0, 1, 2, 3),
)
pyramid = dict(type='mmvim.DeconvPyramid', in_channels=32, norm_cfg=dict(type='BN'))
"""

DETECTION = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': """
fpn = dict(
    type='FPN', in_channels=[32] * 4, out_channels=256, start_level=1, add_extra_convs='on_input', num_outs=5
)
model = dict(backbone=backbone, neck=[pyramid, fpn])
""",
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': """
fpn = dict(
    type='FPN',
    in_channels=[32] * 4,
    out_channels=256,
    start_level=1,
    add_extra_convs='on_output',
    num_outs=5,
    relu_before_extra_convs=True,
)
model = dict(backbone=backbone, neck=[pyramid, fpn])
""",
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py': """
pafpn = dict(
    type='CSPNeXtPAFPN',
    in_channels=[32] * 4,
    out_channels=96,
    num_csp_blocks=1,
    expand_ratio=0.5,
    norm_cfg=dict(type='SyncBN'),
    act_cfg=dict(type='SiLU', inplace=True),
)
model = dict(
    backbone=backbone,
    neck=[pyramid, pafpn],
    bbox_head=dict(anchor_generator=dict(strides=[4, 8, 16, 32])),
)
""",
    'dino/dino-4scale_r50_8xb2-12e_coco.py': """
mapper = dict(
    type='ChannelMapper',
    in_channels=[32] * 4,
    kernel_size=1,
    out_channels=256,
    norm_cfg=dict(type='GN', num_groups=32),
    num_outs=4,
)
model = dict(num_queries=20, backbone=backbone, neck=[pyramid, mapper])
""",
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': """
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=backbone,
    neck=pyramid,
    panoptic_head=dict(in_channels=[32] * 4, num_queries=20),
)
""",
}
SEGMENTATION = {
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': """
model = dict(pretrained=None, backbone=backbone, decode_head=dict(in_channels=[32] * 4))
""",
    'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py': """
model = dict(
    pretrained=None, backbone=backbone, decode_head=dict(in_channels=32), auxiliary_head=dict(in_channels=32)
)
""",
    'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py': """
model = dict(
    pretrained=None,
    backbone=backbone,
    decode_head=dict(in_channels=32, c1_in_channels=32),
    auxiliary_head=dict(in_channels=32),
)
""",
    'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': """
model = dict(backbone=backbone, neck=pyramid, decode_head=dict(in_channels=[32] * 4, num_queries=20))
""",
    'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py': """
backbone['out_indices'] = -1
model = dict(pretrained=None, backbone=backbone, decode_head=dict(in_channels=32))
""",
}


def build(base: str, lines: str, folder: Path, scope: str) -> torch.nn.Module:
    """The model of a stock config with some lines of a user's own."""
    config = folder / 'config.py'
    config.write_text(f'_base_ = {base!r}\n{HEADER}\n{lines}')
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(scope):
        # No weights are downloaded: nothing is initialised from a file.
        return revert_sync_batchnorm(MODELS.build(cfg.model))


def check_step(model: torch.nn.Module, data: dict) -> None:
    """One training step: a finite loss, and a gradient for every parameter of the backbone."""
    data = model.data_preprocessor(data, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss)
    loss.backward()
    without = [name for name, p in model.backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize('stock', DETECTION)
def test_detection(stock: str, tmp_path: Path) -> None:
    from mmdet.testing import demo_mm_inputs

    torch.manual_seed(0)
    model = build(f'mmdet::{stock}', DETECTION[stock], tmp_path, 'mmdet')
    data = demo_mm_inputs(2, (3, 96, 128), num_items=[2, 3], num_classes=80, with_mask=True)
    check_step(model, data)


@pytest.mark.parametrize('stock', SEGMENTATION)
def test_segmentation(stock: str, tmp_path: Path) -> None:
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    # The forks' mmseg is not found under `mmseg::`.
    configs = Path(find_spec('mmseg').origin).parent / '.mim' / 'configs'
    model = build(str(configs / stock), SEGMENTATION[stock], tmp_path, 'mmseg')
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 150, (1, 64, 96)))) for _ in range(2)]
    data = {
        'inputs': [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(2)],
        'data_samples': samples,
    }
    model.data_preprocessor.size = (64, 96)
    check_step(model, data)
