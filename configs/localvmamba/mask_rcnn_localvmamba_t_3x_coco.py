"""Mask R-CNN, LocalVMamba-T, COCO, 36 epochs at many scales."""

_base_ = [
    '../_base_/models/mask_rcnn_localvmamba.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/adamw_1x_vmamba.py',
    '../_base_/default_runtime_det.py',
]
# Of github.com/hunto/LocalMamba/releases/tag/v1.0.0, if it is there: the authors name it, and were training it anew.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vssm_tiny.ckpt'),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
# Upstream's name of the norm in downsampling has `norm` in it, that of the norm in the patch embedding has not.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'downsample.norm': dict(decay_mult=0.0)}))
