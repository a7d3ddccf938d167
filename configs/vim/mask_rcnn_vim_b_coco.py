"""Mask R-CNN, Vim-B, COCO, 12 epochs. Ours: upstream has no such recipe."""

_base_ = [
    '../_base_/models/mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/default_runtime_det.py',
]
# Published as hustvl/Vim-base-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_b_midclstok_81p9acc.pth'),
    ),
    neck=dict(in_channels=768),
)
# Upstream's decay for Vim-B.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
