"""UPerNet, ConvNeXt-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_pyramid.py',
    '../_base_/default_runtime_seg.py',
]
# Published at download.openmmlab.com/mmclassification/v0/convnext/downstream, in the names of mmpretrain.
model = dict(
    backbone=dict(
        type='mmvim.ConvNeXt',  # mmpretrain's; says what to install where there is none
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth',
            prefix='backbone.',
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
