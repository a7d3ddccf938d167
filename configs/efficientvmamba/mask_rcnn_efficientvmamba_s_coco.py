"""Mask R-CNN, EfficientVMamba-S, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_efficientvmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_efficientvmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/TerryPei/EfficientVMamba-Small.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/efficient_vmamba_small.ckpt'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
