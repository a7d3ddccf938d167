"""MambaOut-S, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.MambaOut', arch='small', out_indices=3),
    head=dict(type='mmvim.MLPHead', in_channels=576),
    norm_maps=False,
)
