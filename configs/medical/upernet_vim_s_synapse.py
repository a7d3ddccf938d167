"""UPerNet, Vim-S, Synapse, 40k iterations, slices of 224. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/synapse.py',
    '../_base_/schedules/adamw_40k_vim.py',
    '../_base_/default_runtime_seg.py',
]
# Size and batch: mmseg's _base_/datasets/synapse.py. It has no model for it, and no length: that of the vessels.
model = dict(
    data_preprocessor=dict(size=(224, 224)),
    # Published as hustvl/Vim-small-midclstok on huggingface.co.
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384, num_classes=9),
    auxiliary_head=dict(in_channels=384, num_classes=9),
    test_cfg=dict(_delete_=True, mode='whole'),
)
auto_scale_lr = dict(base_batch_size=24)  # 4 GPUs x 6 images
default_hooks = dict(checkpoint=dict(save_best='mDice'))
