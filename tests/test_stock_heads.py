"""Vim under ten heads of mmdet and mmseg: stock configs with the backbone and channel lines changed, as users do.

A plain backbone has maps of one stride. Where a head wants a pyramid, ``mmvim.DeconvPyramid`` stands in front of the
stock neck: a list of necks is a sequence. What is not about channels (number of queries, size of the padding) only
makes the test small.
"""

from pathlib import Path

import pytest
from stock_heads import detection_step, segmentation_step

HEADER = """
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


@pytest.mark.parametrize('stock', DETECTION)
def test_detection(stock: str, tmp_path: Path) -> None:
    detection_step(stock, HEADER + DETECTION[stock], tmp_path)


@pytest.mark.parametrize('stock', SEGMENTATION)
def test_segmentation(stock: str, tmp_path: Path) -> None:
    segmentation_step(stock, HEADER + SEGMENTATION[stock], tmp_path)
