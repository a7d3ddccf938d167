"""LocalVim-T with a class token in the middle, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.LocalVim', arch='tiny', out_type='cls_token', out_norm=False),
    head=dict(in_channels=192),
)
