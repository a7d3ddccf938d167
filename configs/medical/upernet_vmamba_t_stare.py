"""UPerNet, VMamba-T, STARE, 40k iterations, crops of 128. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/stare.py',
    '../_base_/schedules/adamw_40k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, windows, batch and length: mmseg's unet-s5-d16_fcn_4xb4-40k_stare-128x128.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    # Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth')),
    decode_head=dict(num_classes=2),
    auxiliary_head=dict(num_classes=2),
    test_cfg=dict(mode='slide', crop_size=(128, 128), stride=(85, 85)),
)
default_hooks = dict(checkpoint=dict(save_best='mDice'))
