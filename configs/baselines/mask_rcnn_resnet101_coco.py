"""Mask R-CNN, ResNet-101, COCO, 12 epochs."""

_base_ = [
    '../_base_/models/mask_rcnn_resnet.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/default_runtime_det.py',
]
# Published at download.pytorch.org/models, torchvision's first weights.
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='weights/resnet101-63fe2227.pth'),
    ),
)
