"""UPerNet, Vim-Ti, ADE20K: upstream's launch script, with features from the residual stream."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_60k.py',
    '../_base_/default_runtime_seg.py',
]
# Published as hustvl/Vim-tiny-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_t_midclstok_76p1acc.pth'),
    ),
)
# The script's rates; upstream's config file says 1e-4 and 0.05.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.1), paramwise_cfg=dict(layer_decay_rate=0.92))
