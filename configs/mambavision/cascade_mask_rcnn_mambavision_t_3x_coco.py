"""Cascade Mask R-CNN, MambaVision-T, COCO, 36 epochs at many scales."""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_mambavision.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/adamw_3x_mambavision.py',
    '../_base_/default_runtime_det.py',
]
# Published at huggingface.co/nvidia/MambaVision-T-1K; not for commercial use.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambavision_tiny_1k.pth.tar'),
    ),
)
