"""UPerNet on the four maps of MambaOut-T, which are a pyramid already; variants change the arch."""

_base_ = './upernet_vim.py'
model = dict(
    backbone=dict(_delete_=True, type='mmvim.MambaOut', arch='tiny', out_indices=(0, 1, 2, 3), drop_path_rate=0.3),
    neck=None,
    decode_head=dict(in_channels=[96, 192, 384, 576], channels=512),
    auxiliary_head=dict(in_channels=384),
    test_cfg=dict(_delete_=True, mode='whole'),
)
