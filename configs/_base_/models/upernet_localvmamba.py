"""UPerNet on the four maps of LocalVMamba-T, which are a pyramid already; variants change the arch."""

_base_ = './upernet.py'
model = dict(
    backbone=dict(type='mmvim.LocalVMamba', arch='tiny', out_indices=(0, 1, 2, 3), drop_path_rate=0.1),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
