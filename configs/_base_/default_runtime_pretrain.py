"""What every run of pretraining shares."""

default_scope = 'mmengine'
# mmcv's transforms are registered by their import; with mmvim's a fault inside of it shows its own message as well.
custom_imports = dict(imports=['mmvim', 'mmcv.transforms'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmvim.SafeCheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    exact_resume=dict(type='mmvim.ExactResumeHook'),
    start_report=dict(type='mmvim.StartReportHook'),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
log_level = 'INFO'
load_from = None
resume = False
