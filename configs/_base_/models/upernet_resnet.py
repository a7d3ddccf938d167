"""UPerNet on ResNet-50 with the stem of three convolutions that segmentation is used to; variants change the depth."""

_base_ = './upernet.py'
model = dict(
    backbone=dict(type='mmseg.ResNetV1c', depth=50, norm_cfg=dict(type='SyncBN', requires_grad=True)),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
