"""UPerNet, Vim-S, HRF, 40k iterations, crops of 256. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/hrf.py',
    '../_base_/schedules/adamw_40k_vim.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, windows, batch and length: mmseg's unet-s5-d16_fcn_4xb4-40k_hrf-256x256.
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    # Published as hustvl/Vim-small-midclstok on huggingface.co.
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384, num_classes=2),
    auxiliary_head=dict(in_channels=384, num_classes=2),
    test_cfg=dict(crop_size=(256, 256), stride=(170, 170)),
)
default_hooks = dict(checkpoint=dict(save_best='mDice'))
