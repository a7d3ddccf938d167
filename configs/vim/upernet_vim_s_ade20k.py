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
# The script's layer decay of 0.95; upstream's config file says 0.92.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'backbone.pos_embed': dict(lr_mult=0.95**25),
            'backbone.patch_embed.proj.weight': dict(lr_mult=0.95**25),
            'backbone.patch_embed.proj.bias': dict(lr_mult=0.95**25, decay_mult=0.0),
        }
    ),
)
