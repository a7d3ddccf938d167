"""Mask R-CNN, PlainMamba-L2 with its adapter, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_plainmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_plainmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l2.pth.
model = dict(
    backbone=dict(
        arch='l2',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l2.pth'),
    ),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
sync_bn = 'torch'  # of the backbone too, where several GPUs train
