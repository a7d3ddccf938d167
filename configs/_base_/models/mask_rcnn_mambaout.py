"""Mask R-CNN on MambaOut-T through an FPN; variants change the arch. The heads are those of the Vim models."""

_base_ = './mask_rcnn_vim.py'
model = dict(
    backbone=dict(_delete_=True, type='mmvim.MambaOut', arch='tiny', out_indices=(0, 1, 2, 3), drop_path_rate=0.3),
    neck=dict(_delete_=True, type='FPN', in_channels=[96, 192, 384, 576], out_channels=256, num_outs=5),
)
