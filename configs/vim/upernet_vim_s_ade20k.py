"""UPerNet, Vim-S, ADE20K: upstream's launch script on the published weights, which know no RoPE."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_60k.py',
    '../_base_/default_runtime_seg.py',
]
# Published as hustvl/Vim-small-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384),
)
# The script's decay; upstream's config file says 0.92.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95))
