"""12 epochs of AdamW at batch 16 with the shorter warm-up: PlainMamba's detection recipe."""

_base_ = './det_1x.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # Upstream exempts embeddings, A_log, D, direction_Bs, and what has `norm` or `bias` in its name. By accident
        # this leaves the weights of most batch norms decayed, which are called `bn` or numbered, and `gamma`.
        norm_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={'norm': dict(decay_mult=0.0), 'bias': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
