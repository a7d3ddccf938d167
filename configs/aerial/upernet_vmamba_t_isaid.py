"""UPerNet, VMamba-T, iSAID, 80k iterations, crops of 896. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/isaid.py',
    '../_base_/schedules/adamw_80k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, batch and length: mmseg's deeplabv3plus_r50-d8_4xb4-80k_isaid-896x896.
model = dict(
    data_preprocessor=dict(size=(896, 896)),
    # Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth')),
    decode_head=dict(num_classes=16),
    auxiliary_head=dict(num_classes=16),
)
