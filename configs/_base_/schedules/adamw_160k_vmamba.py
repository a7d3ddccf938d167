"""160k iterations of AdamW at batch 16, a linear fall of the rate: VMamba's segmentation recipe, which is Swin's."""

_base_ = './adamw_60k.py'
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        _delete_=True,
        # Upstream decays everything but what has `norm` in its name. By accident this takes in all biases, A_logs, Ds
        # and dt_projs_bias, the norms of patch embedding and downsampling, which upstream numbers, and the batch norms
        # of the heads, which are called `bn`.
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
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(max_iters=160000, val_interval=16000)
default_hooks = dict(checkpoint=dict(interval=16000))
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2 images
