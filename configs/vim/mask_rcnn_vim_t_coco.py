"""Mask R-CNN, Vim-Ti, COCO, 12 epochs. Ours: upstream has no such recipe."""

_base_ = [
    '../_base_/models/mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/default_runtime_det.py',
]
# Published as hustvl/Vim-tiny-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_t_midclstok_76p1acc.pth'),
    ),
)
