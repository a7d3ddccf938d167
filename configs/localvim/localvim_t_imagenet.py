"""LocalVim-T, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.LocalVim', arch='tiny', final_norm=True, out_norm=False),
    head=dict(in_channels=192),
)
