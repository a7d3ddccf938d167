"""CLIP, VMamba-T, as a classifier of ImageNet-1k without training on its classes."""

_base_ = [
    '../_base_/models/clip_imagenet.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(backbone=dict(type='mmvim.VMamba', arch='tiny', out_indices=3))
