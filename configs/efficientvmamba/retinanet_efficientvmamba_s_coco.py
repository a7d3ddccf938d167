"""RetinaNet, EfficientVMamba-S, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/retinanet_efficientvmamba.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/adamw_1x_pyramid.py',
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
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))  # PVT's, whose recipe the paper names
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
