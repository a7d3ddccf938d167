"""Mask R-CNN, EfficientVMamba-S, COCO, 36 epochs at many scales."""

_base_ = [
    '../_base_/models/mask_rcnn_efficientvmamba.py',
    '../_base_/datasets/coco_instance_ms.py',
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
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
