"""UPerNet, Swin-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_pyramid.py',
    '../_base_/default_runtime_seg.py',
]
# Published at download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin: the official weights in the names of mmseg. The
# official file itself does not fit, and mmseg would pass over it in silence.
model = dict(
    backbone=dict(
        type='mmseg.SwinTransformer',
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='weights/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)}),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
