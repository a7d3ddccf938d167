"""Mask R-CNN on the last map of a plain LocalVim-T, with ViTDet's pyramid and heads; variants change the width."""

_base_ = './mask_rcnn.py'
# Normalises each position over its channels. The heads of ViTDet use it wherever they have a convolution.
norm_cfg = dict(type='mmvim.models.layers.LayerNorm2d', eps=1e-6)
model = dict(
    # Every image becomes a square of 1024, in training and in test.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(type='mmvim.LocalVim', arch='tiny', pretrain_img_size=1024, out_indices=-1, drop_path_rate=0.1),
    neck=dict(type='mmvim.SimplePyramid', in_channels=192, out_channels=256),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
