"""12 epochs of AdamW at batch 16: EfficientVMamba's detection recipe, which is Swin's."""

_base_ = './det_1x.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # Upstream decays everything but what has `norm` in its name. By accident this takes in all biases, A_logs, Ds
        # and dt_projs_bias, batch norms and the norm of the patch embedding, which upstream numbers.
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={
            'norm': dict(decay_mult=0.0),
            'A_logs': dict(decay_mult=1.0),
            'Ds': dict(decay_mult=1.0),
            'dt_projs_bias': dict(decay_mult=1.0),
            'patch_embed': dict(decay_mult=1.0),
        },
    ),
)
