"""Mask R-CNN, Vim-B, COCO, 100 epochs, as upstream has it to the letter: the heads and the recipe of ViTDet."""

_base_ = [
    '../_base_/models/mask_rcnn_vim.py',
    '../_base_/datasets/coco_instance_lsj1024.py',
    '../_base_/schedules/adamw_184k.py',
    '../_base_/default_runtime_det.py',
]
# Normalises each position over its channels.
norm_cfg = dict(type='mmvim.models.layers.LayerNorm2d', eps=1e-6)
model = dict(
    # Every image becomes a square of 1024, in training and in test.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        arch='base',
        # Tokens and residual stream are rotated by their position in front of each block.
        rope=True,
        rope_residual=True,
        # Upstream's default when its config was published; the published ImageNet weights are made for halved sums.
        average_directions=False,
        # Upstream's file names the weights of a vision transformer, which do not fit: name your own here.
        init_cfg=None,
    ),
    neck=dict(in_channels=768),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
