"""Mask R-CNN on PlainMamba-L1 with its adapter through an FPN; variants change the arch."""

_base_ = './mask_rcnn.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    # As the published weights were trained.
    backbone=dict(
        type='mmvim.PlainMambaAdapter', arch='l1', raster_parameters=True, double_dt_bias=True, drop_path_rate=0.1
    ),
    neck=dict(type='FPN', in_channels=[192, 192, 192, 192], out_channels=256, num_outs=5, norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
    ),
)
