"""Mask R-CNN, Vim-S, COCO, 12 epochs. Ours: upstream has no such recipe."""

_base_ = [
    '../_base_/models/mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/default_runtime_det.py',
]
# Published as hustvl/Vim-small-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
)
