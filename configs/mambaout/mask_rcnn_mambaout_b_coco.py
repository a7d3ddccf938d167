"""Mask R-CNN, MambaOut-B, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_mambaout.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_pyramid.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/yuweihao/MambaOut/releases/tag/model.
model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.6,
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambaout_base.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512, 768]),
)
