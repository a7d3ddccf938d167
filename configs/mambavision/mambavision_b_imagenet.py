"""MambaVision-B, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.MambaVision', arch='base', out_indices=3),
    head=dict(type='mmvim.BatchNormHead', in_channels=1024),
    norm_maps=False,
)
