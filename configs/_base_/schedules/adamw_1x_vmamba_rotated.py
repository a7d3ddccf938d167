"""VMamba's detection recipe for 12 epochs, which is mmrotate's length as well, measured by the mAP of DOTA."""

_base_ = ['./det_1x.py', './adamw_vmamba.py']

default_hooks = dict(
    checkpoint=dict(save_best='dota/mAP'),
    visualization=dict(type='mmdet.DetVisualizationHook'),
)
