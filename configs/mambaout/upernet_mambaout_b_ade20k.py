"""UPerNet, MambaOut-B, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_mambaout.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_pyramid.py',
    '../_base_/default_runtime_seg.py',
]
# Published at github.com/yuweihao/MambaOut/releases/tag/model.
model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.6,
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambaout_base.pth'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 768]),
    auxiliary_head=dict(in_channels=512),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
