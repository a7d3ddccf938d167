"""12 epochs of AdamW at batch 16: VMamba's detection recipe, which is Swin's."""

_base_ = './adamw_1x.py'
optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        # Upstream decays everything but what has `norm` in its name. By accident this takes in all biases, A_logs, Ds
        # and dt_projs_bias, and the norms of patch embedding and downsampling, which upstream numbers.
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={
            'norm': dict(decay_mult=0.0),
            'A_logs': dict(decay_mult=1.0),
            'Ds': dict(decay_mult=1.0),
            'dt_projs_bias': dict(decay_mult=1.0),
            'patch_embed': dict(decay_mult=1.0),
            'downsample': dict(decay_mult=1.0),
        },
    ),
)
