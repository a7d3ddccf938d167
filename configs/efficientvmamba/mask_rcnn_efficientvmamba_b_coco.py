"""Mask R-CNN, EfficientVMamba-B, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_efficientvmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_efficientvmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/TerryPei/EfficientVMamba-Base.
model = dict(
    backbone=dict(
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint='weights/efficient_vmamba_base.ckpt'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
