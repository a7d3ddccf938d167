"""RetinaNet on EfficientVMamba-T through an FPN; variants change the arch."""

_base_ = './retinanet.py'
model = dict(
    backbone=dict(type='mmvim.EfficientVMamba', arch='tiny', out_indices=(0, 1, 2, 3), drop_path_rate=0.1),
    neck=dict(
        type='FPN',
        in_channels=[48, 96, 192, 384],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5,
    ),
)
