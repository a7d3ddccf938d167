"""Mask R-CNN, LocalVMamba-S, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_localvmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_vmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/hunto/LocalMamba/releases/tag/v1.0.0.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vssm_small.ckpt'),
    ),
)
# Upstream's name of the norm in downsampling has `norm` in it, that of the norm in the patch embedding has not.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'downsample.norm': dict(decay_mult=0.0)}))
