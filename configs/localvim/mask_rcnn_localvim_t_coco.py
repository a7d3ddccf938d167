"""Mask R-CNN, LocalVim-T, COCO, 100 epochs with large-scale jitter, with the heads and the recipe of ViTDet."""

_base_ = [
    '../_base_/models/mask_rcnn_localvim.py',
    '../_base_/datasets/coco_instance_lsj1024.py',
    '../_base_/schedules/adamw_184k_localvim.py',
    '../_base_/default_runtime_det.py',
]
# Published at github.com/hunto/LocalMamba/releases/tag/v1.0.0.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vim_tiny.ckpt'),
    ),
)
