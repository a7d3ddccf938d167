"""Mask R-CNN, MambaOut-S, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_mambaout.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_pyramid.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/yuweihao/MambaOut/releases/tag/model.
model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambaout_small.pth'),
    ),
)
