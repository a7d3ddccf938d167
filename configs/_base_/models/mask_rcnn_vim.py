"""Mask R-CNN on the last map of a plain Vim through ViTDet's simple pyramid; variants change the width."""

_base_ = './mask_rcnn.py'
model = dict(
    backbone=dict(type='mmvim.Vim', arch='tiny', out_indices=-1, drop_path_rate=0.1),
    neck=dict(type='mmvim.SimplePyramid', in_channels=192, out_channels=256),
)
