"""UPerNet, Vim-Ti, ADE20K, as upstream has it to the letter."""

_base_ = './upernet_vim_t_ade20k.py'
# Upstream's heads see what the four blocks add to the residual stream, not the stream.
model = dict(backbone=dict(feature='branch'))
