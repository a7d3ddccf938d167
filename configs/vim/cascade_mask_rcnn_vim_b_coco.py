"""Cascade Mask R-CNN, Vim-B, COCO, 100 epochs: upstream's recipe on the published weights, which know no RoPE."""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance_lsj1024.py',
    '../_base_/schedules/adamw_184k.py',
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
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
