"""VMamba under the ten stock heads of mmdet and mmseg: the backbone and channel lines changed, as users do.

Its four maps have the strides of a ResNet's, so that no pyramid has to stand between.
"""

from pathlib import Path

import pytest
from stock_heads import detection_step, segmentation_step

HEADER = """
backbone = dict(_delete_=True, type='mmvim.VMamba', arch=dict(embed_dims=16, depths=(1, 1, 2, 1)))
"""
# These heads begin at stride 8: the first map, whose norm nothing would train, is not asked for.
FROM_STRIDE_8 = """
backbone['out_indices'] = (1, 2, 3)
model = dict(backbone=backbone, neck=dict(in_channels=[32, 64, 128], start_level=0))
"""
DETECTION = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': FROM_STRIDE_8,
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': FROM_STRIDE_8,
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py': """
backbone['out_indices'] = (1, 2, 3)
model = dict(backbone=backbone, neck=dict(in_channels=[32, 64, 128]))
""",
    'dino/dino-4scale_r50_8xb2-12e_coco.py': """
backbone['out_indices'] = (1, 2, 3)
model = dict(num_queries=20, backbone=backbone, neck=dict(in_channels=[32, 64, 128]))
""",
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': """
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=backbone,
    panoptic_head=dict(in_channels=[16, 32, 64, 128], num_queries=20),
)
""",
}
SEGMENTATION = {
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': """
model = dict(pretrained=None, backbone=backbone, decode_head=dict(in_channels=[16, 32, 64, 128]))
""",
    'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py': """
backbone['out_indices'] = (2, 3)
model = dict(
    pretrained=None,
    backbone=backbone,
    decode_head=dict(in_channels=128, in_index=1),
    auxiliary_head=dict(in_channels=64, in_index=0),
)
""",
    'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py': """
backbone['out_indices'] = (0, 2, 3)
model = dict(
    pretrained=None,
    backbone=backbone,
    decode_head=dict(in_channels=128, in_index=2, c1_in_channels=16),
    auxiliary_head=dict(in_channels=64, in_index=1),
)
""",
    'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': """
model = dict(backbone=backbone, decode_head=dict(in_channels=[16, 32, 64, 128], num_queries=20))
""",
    'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py': """
backbone['out_indices'] = 3
model = dict(pretrained=None, backbone=backbone, decode_head=dict(in_channels=128))
""",
}


@pytest.mark.parametrize('stock', DETECTION)
def test_detection(stock: str, tmp_path: Path) -> None:
    detection_step(stock, HEADER + DETECTION[stock], tmp_path)


@pytest.mark.parametrize('stock', SEGMENTATION)
def test_segmentation(stock: str, tmp_path: Path) -> None:
    segmentation_step(stock, HEADER + SEGMENTATION[stock], tmp_path)
