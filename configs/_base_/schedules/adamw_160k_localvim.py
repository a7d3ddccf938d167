"""160k iterations of AdamW at batch 16, a linear fall of the rate: LocalVim's segmentation recipe, which is ViT's."""

_base_ = './seg_iter.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # Upstream decays everything but the position embedding and what has `norm` in its name. By accident this takes
        # in all biases, A_logs, Ds and what the scans are offset by, and the batch norms of heads, which are called
        # `bn`.
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={
            'norm': dict(decay_mult=0.0),
            'A_logs': dict(decay_mult=1.0),
            'Ds': dict(decay_mult=1.0),
            'dt_projs_bias': dict(decay_mult=1.0),
            'conv1d_bias': dict(decay_mult=1.0),
        },
    ),
)
