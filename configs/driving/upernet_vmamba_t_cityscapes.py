"""UPerNet, VMamba-T, Cityscapes, 80k iterations, crops of 512 x 1024. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/adamw_80k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Crops, batch and length: mmseg's upernet_r50_4xb2-80k_cityscapes-512x1024.
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    # Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth')),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
)
auto_scale_lr = dict(base_batch_size=8)  # 4 GPUs x 2 images
