"""12 epochs of AdamW at batch 16. Ours: upstream trains detection for 100 epochs only."""

_base_ = './det_1x.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    # The decay of upstream's long recipe for Vim-Ti and Vim-S.
    paramwise_cfg=dict(layer_decay_rate=0.837),
)
