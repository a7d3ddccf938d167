"""Mask R-CNN, PlainMamba-L1 with its adapter, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_plainmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_plainmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l1.pth.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l1.pth'),
    ),
)
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
sync_bn = 'torch'  # of the backbone too, where several GPUs train
