"""160k iterations of AdamW at batch 16, a linear fall of the rate, the same in every layer.

Norms and biases are not decayed. Rate and decay are ConvNeXt's; variants change them.
"""

_base_ = './seg_iter.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
