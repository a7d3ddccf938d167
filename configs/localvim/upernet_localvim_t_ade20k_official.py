"""UPerNet, LocalVim-T, ADE20K, as upstream has it to the letter."""

_base_ = './upernet_localvim_t_ade20k.py'
model = dict(
    backbone=dict(
        # Heads see what the blocks add to the residual stream, not the stream.
        feature='branch',
        # The published weights are made for RMS norms.
        norm='layer',
        # Right on square maps alone.
        legacy_reverse=True,
    )
)
