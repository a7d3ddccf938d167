"""60k iterations of AdamW at batch 32 with a linear fall of the rate: upstream's segmentation recipe."""

_base_ = './seg_iter.py'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.95,
        # Upstream looks for `backbone.blocks`, which Vim calls `layers`: only the embeddings get a smaller rate.
        only_embeddings=True,
        # Decayed by accident: upstream does not read the mark that exempts A_log, and looks for a `pos_embed` without
        # `backbone.` in front.
        custom_keys={'A_logs': dict(decay_mult=1.0), 'pos_embed': dict(decay_mult=1.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=60000),
]
train_cfg = dict(max_iters=60000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
auto_scale_lr = dict(base_batch_size=32)  # 4 GPUs x 8 images
