"""UPerNet, Vim-S, Cityscapes, 80k iterations, crops of 512 x 1024. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/adamw_80k_vim.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, batch and length: mmseg's upernet_r50_4xb2-80k_cityscapes-512x1024.
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    # Published as hustvl/Vim-small-midclstok on huggingface.co.
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384, num_classes=19),
    auxiliary_head=dict(in_channels=384, num_classes=19),
    test_cfg=dict(crop_size=(512, 1024), stride=(341, 683)),
)
auto_scale_lr = dict(base_batch_size=8)  # 4 GPUs x 2 images
