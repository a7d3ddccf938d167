"""UPerNet, Vim-S, VSPW, 80k iterations, crops of 480 x 480. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/vspw.py',
    '../_base_/schedules/adamw_80k_vim.py',
    '../_base_/default_runtime_seg.py',
]
# Batch and length: those of mmseg for Cityscapes, which has no config of VSPW.
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    # Published as hustvl/Vim-small-midclstok on huggingface.co.
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384, num_classes=124),
    auxiliary_head=dict(in_channels=384, num_classes=124),
    test_cfg=dict(crop_size=(480, 480), stride=(320, 320)),
)
auto_scale_lr = dict(base_batch_size=8)  # 4 GPUs x 2 images
