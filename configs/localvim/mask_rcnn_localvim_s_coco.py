"""Mask R-CNN, LocalVim-S, COCO, 100 epochs with large-scale jitter, with the heads and the recipe of ViTDet."""

_base_ = [
    '../_base_/models/mask_rcnn_localvim.py',
    '../_base_/datasets/coco_instance_lsj1024.py',
    '../_base_/schedules/adamw_184k_localvim.py',
    '../_base_/default_runtime_det.py',
]
# Of github.com/hunto/LocalMamba/releases/tag/v1.0.0, if it is there: the authors name it, and link another file.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vim_small.ckpt'),
    ),
    neck=dict(in_channels=384),
)
