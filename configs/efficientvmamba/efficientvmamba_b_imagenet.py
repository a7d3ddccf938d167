"""EfficientVMamba-B, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.EfficientVMamba', arch='base', out_indices=3),
    head=dict(in_channels=768),
)
