"""Mask R-CNN, ConvNeXt-T, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_pyramid.py',
    '../_base_/default_runtime_det.py',
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
    neck=dict(type='FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
)
