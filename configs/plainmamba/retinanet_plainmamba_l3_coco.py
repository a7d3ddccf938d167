"""RetinaNet, PlainMamba-L3 with its adapter, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/retinanet_plainmamba.py',
    '../_base_/datasets/coco_detection.py',
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
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
sync_bn = 'torch'  # of the backbone too, where several GPUs train
