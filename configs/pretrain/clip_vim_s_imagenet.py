"""CLIP, Vim-S, as a classifier of ImageNet-1k without training on its classes."""

_base_ = [
    '../_base_/models/clip_imagenet.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(backbone=dict(type='mmvim.Vim', arch='small', pretrain_img_size=224, out_indices=-1, final_norm=True))
