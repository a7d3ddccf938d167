"""UPerNet, Vim-S, Potsdam, 80k iterations, crops of 512. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/potsdam.py',
    '../_base_/schedules/adamw_80k_vim.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, batch and length: mmseg's deeplabv3plus_r50-d8_4xb4-80k_potsdam-512x512.
model = dict(
    # Published as hustvl/Vim-small-midclstok on huggingface.co.
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384, num_classes=6),
    auxiliary_head=dict(in_channels=384, num_classes=6),
)
