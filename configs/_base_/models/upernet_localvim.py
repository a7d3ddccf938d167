"""UPerNet on four maps of stride 16 of a plain LocalVim-T; variants change the width."""

_base_ = './upernet.py'
model = dict(
    backbone=dict(
        type='mmvim.LocalVim', arch='tiny', pretrain_img_size=512, out_indices=(4, 9, 14, 19), drop_path_rate=0.1
    ),
    # Without a neck: the head is given four maps of one size.
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192),
)
