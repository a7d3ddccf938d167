"""UPerNet on four taps of PlainMamba-L1, all at stride 16; variants change the arch."""

_base_ = './upernet.py'
model = dict(
    # As the published weights were trained.
    backbone=dict(
        type='mmvim.PlainMamba',
        arch='l1',
        out_indices=(5, 11, 17, 23),
        raster_parameters=True,
        double_dt_bias=True,
        drop_path_rate=0.1,
    ),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192, in_index=3),
)
