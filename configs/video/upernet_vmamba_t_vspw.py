"""UPerNet, VMamba-T, VSPW, 80k iterations, crops of 480 x 480. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/vspw.py',
    '../_base_/schedules/adamw_80k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Batch and length: those of mmseg for Cityscapes, which has no config of VSPW.
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    # Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth')),
    decode_head=dict(num_classes=124),
    auxiliary_head=dict(num_classes=124),
)
auto_scale_lr = dict(base_batch_size=8)  # 4 GPUs x 2 images
