"""Oriented R-CNN, VMamba-T, DOTA 1.0, 12 epochs, tiles of 1024. Ours: the authors published none."""

_base_ = [
    '../_base_/models/oriented_rcnn.py',
    '../_base_/datasets/dota.py',
    '../_base_/schedules/adamw_1x_vmamba_rotated.py',
    '../_base_/default_runtime_rotated.py',
]
model = dict(
    backbone=dict(
        type='mmvim.VMamba',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
        # Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth'),
    ),
    neck=dict(type='mmdet.FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
)
