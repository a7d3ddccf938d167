"""Mask R-CNN, VMamba-S, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_vmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_vmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssm_small_0229_ckpt_epoch_222.pth'),
    ),
)
