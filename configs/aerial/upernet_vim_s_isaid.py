"""UPerNet, Vim-S, iSAID, 80k iterations, crops of 896. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/isaid.py',
    '../_base_/schedules/adamw_80k_vim.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, batch and length: mmseg's deeplabv3plus_r50-d8_4xb4-80k_isaid-896x896.
model = dict(
    data_preprocessor=dict(size=(896, 896)),
    # Published as hustvl/Vim-small-midclstok on huggingface.co.
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384, num_classes=16),
    auxiliary_head=dict(in_channels=384, num_classes=16),
    test_cfg=dict(crop_size=(896, 896), stride=(597, 597)),
)
