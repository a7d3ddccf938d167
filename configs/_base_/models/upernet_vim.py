"""UPerNet on four taps of a plain Vim, as small as Vim-Ti; variants change the width."""

_base_ = './upernet.py'
model = dict(
    backbone=dict(type='mmvim.Vim', arch='tiny', out_indices=(5, 11, 17, 23), drop_path_rate=0.1),
    # Strides 4, 8, 16 and 32 from maps of stride 16.
    neck=dict(_delete_=True, type='mmvim.DeconvPyramid', in_channels=192, patch_stride=16, norm_cfg=_base_.norm_cfg),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=192),
    auxiliary_head=dict(in_channels=192),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
