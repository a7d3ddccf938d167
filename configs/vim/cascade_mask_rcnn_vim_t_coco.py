"""Cascade Mask R-CNN, Vim-Ti, COCO, 100 epochs: upstream's recipe on the published weights, which know no RoPE."""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance_lsj1024.py',
    '../_base_/schedules/adamw_184k.py',
    '../_base_/default_runtime_det.py',
]
# Published as hustvl/Vim-tiny-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_t_midclstok_76p1acc.pth'),
    ),
)
