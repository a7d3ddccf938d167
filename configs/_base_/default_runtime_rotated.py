"""What every run with rotated boxes shares."""

default_scope = 'mmrotate'
# The dotted type names find mmvim by themselves; with this import a fault inside mmvim shows its own message as well.
custom_imports = dict(imports=['mmvim'], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='RotLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_level = 'INFO'
load_from = None
resume = False
