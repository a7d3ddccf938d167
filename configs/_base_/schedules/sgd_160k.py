"""160k iterations of SGD at batch 16: the recipe that mmseg trains ResNets by. Everything is decayed."""

_base_ = './seg_iter.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(norm_decay_mult=1.0, bias_decay_mult=1.0, flat_decay_mult=1.0),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, by_epoch=False, begin=0, end=160000)]
