"""Cascade Mask R-CNN, Vim-S, COCO, 100 epochs: upstream's recipe on the published weights, which know no RoPE."""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance_lsj1024.py',
    '../_base_/schedules/adamw_184k.py',
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
