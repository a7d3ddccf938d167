"""12 epochs of AdamW at batch 16, the same rate in every layer; norms and biases are not decayed."""

_base_ = './adamw_1x.py'
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
