"""The same UPerNet on the same 100 scenes, its backbone pretrained without labels by simmim_vmamba_miniature.py."""

_base_ = './upernet_vmamba_miniature.py'
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/simmim_vmamba_miniature/epoch_10.pth'),
    ),
)
