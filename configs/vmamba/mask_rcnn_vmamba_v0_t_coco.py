"""Mask R-CNN, the first VMamba-T, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_vmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_vmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v0cls.
model = dict(
    backbone=dict(
        arch='v0_tiny',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssmtiny_dp01_ckpt_epoch_292.pth'),
    ),
)
# Here upstream's names of the norms in patch embedding and downsampling have `norm` in them.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'patch_embed.0.norm': dict(decay_mult=0.0), 'downsample.norm': dict(decay_mult=0.0)},
    ),
)
