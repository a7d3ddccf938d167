"""UPerNet on the four maps of EfficientVMamba-T, which are a pyramid already; variants change the arch."""

_base_ = './upernet.py'
model = dict(
    backbone=dict(type='mmvim.EfficientVMamba', arch='tiny', out_indices=(0, 1, 2, 3), drop_path_rate=0.1),
    decode_head=dict(in_channels=[48, 96, 192, 384]),
    auxiliary_head=dict(in_channels=192),
)
