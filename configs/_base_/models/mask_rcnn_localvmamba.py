"""Mask R-CNN on LocalVMamba-T through an FPN; variants change the arch."""

_base_ = './mask_rcnn.py'
model = dict(
    # Swin-T's drop path: upstream's configs stand on Swin's and do not set their own.
    backbone=dict(type='mmvim.LocalVMamba', arch='tiny', out_indices=(0, 1, 2, 3), drop_path_rate=0.2),
    neck=dict(type='FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
)
