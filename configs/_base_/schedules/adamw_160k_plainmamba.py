"""160k iterations of AdamW at batch 16, a linear fall of the rate: PlainMamba's segmentation recipe."""

_base_ = './seg_iter.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # Upstream exempts the position embedding, A_log, D, direction_Bs, and what has `norm` in its name. By accident
        # this leaves biases decayed, batch norms, which are called `bn` or numbered, and the last norm, `ln1` there.
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={
            'norm': dict(decay_mult=0.0),
            'norm_f': dict(decay_mult=1.0),
            'dt_projs_bias': dict(decay_mult=1.0),
        },
    ),
)
