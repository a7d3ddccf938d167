"""UPerNet on ResNet-50 with the stem of three convolutions that segmentation is used to; variants change the depth."""

_base_ = './upernet_vim.py'
model = dict(
    backbone=dict(_delete_=True, type='mmseg.ResNetV1c', depth=50, norm_cfg=dict(type='SyncBN', requires_grad=True)),
    neck=None,
    decode_head=dict(in_channels=[256, 512, 1024, 2048], channels=512),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(_delete_=True, mode='whole'),
)
