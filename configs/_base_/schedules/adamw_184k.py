"""184,375 iterations of AdamW at batch 64, 100 epochs of COCO: upstream's detection recipe, which is ViTDet's.

Upstream trains in mixed precision; here that is ``tools/train.py --amp``.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.837,
        # Decayed by accident: detectron2 does not know Vim's RMSNorm and its own layer norm as norms, nor the marks
        # on A_log, D and the biases of the scan. Only pos_embed is exempt.
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={'mixer': dict(decay_mult=1.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=184375, milestones=[163889, 177546], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=64)  # 4 GPUs x 16 images

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmvim.SafeCheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=2, save_best='coco/segm_mAP'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
    exact_resume=dict(type='mmvim.ExactResumeHook'),
    start_report=dict(type='mmvim.StartReportHook'),
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
