"""60k iterations of AdamW at batch 32 with a linear fall of the rate: upstream's segmentation recipe."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # Upstream's groups. No weight decay for vectors, that is for norms, biases and D; those that hold both directions
    # in one matrix are named. A_logs and pos_embed do decay: upstream marks A_log as exempt without reading the mark,
    # and looks for a `pos_embed` that has no `backbone.` in front.
    # Its layer-wise decay looks for `backbone.blocks`, which Vim calls `layers`: of all parameters only the two at
    # the bottom get a smaller rate, decay ** 25. Each variant sets that factor.
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            'conv1d_bias': dict(decay_mult=0.0),
            'dt_projs_bias': dict(decay_mult=0.0),
            'mixer.Ds': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=60000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=32)  # 4 GPUs x 8 images
randomness = dict(seed=0)
