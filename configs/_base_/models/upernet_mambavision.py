"""UPerNet on the four maps of MambaVision-T, which are a pyramid already; variants change the arch."""

_base_ = './upernet.py'
model = dict(
    # The windows are larger than the maps of a crop of 512: one window has all of them, and zeros around them.
    backbone=dict(
        type='mmvim.MambaVision', arch='tiny', out_indices=(0, 1, 2, 3), window_sizes=(64, 32), drop_path_rate=0.2
    ),
    decode_head=dict(in_channels=[80, 160, 320, 640]),
    auxiliary_head=dict(in_channels=320),
)
