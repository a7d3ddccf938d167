"""Mask R-CNN, VMamba-T of arch tiny_s2l5, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_vmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_vmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
model = dict(
    backbone=dict(
        arch='tiny_s2l5',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssm_tiny_0230_ckpt_epoch_262.pth'),
    ),
)
