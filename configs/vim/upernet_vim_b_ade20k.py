"""UPerNet, Vim-B, ADE20K. Ours: upstream has no such recipe; this is the one of Vim-S."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_60k.py',
    '../_base_/default_runtime_seg.py',
]
# Published as hustvl/Vim-base-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_b_midclstok_81p9acc.pth'),
    ),
    neck=dict(in_channels=768),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
)
