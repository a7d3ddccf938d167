"""RetinaNet, PlainMamba-L1 with its adapter, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/retinanet_plainmamba.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/adamw_1x_plainmamba.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l1.pth.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l1.pth'),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
sync_bn = 'torch'  # of the backbone too, where several GPUs train
