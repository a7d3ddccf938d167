"""Mask R-CNN, PlainMamba-L3 with its adapter, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_plainmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_plainmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l3.pth.
model = dict(
    backbone=dict(
        arch='l3',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l3.pth'),
    ),
    neck=dict(in_channels=[448, 448, 448, 448]),
)
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
sync_bn = 'torch'  # of the backbone too, where several GPUs train
