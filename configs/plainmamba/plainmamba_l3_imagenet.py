"""PlainMamba-L3, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.PlainMamba', arch='l3', raster_parameters=True, double_dt_bias=True),
    head=dict(in_channels=448),
)
