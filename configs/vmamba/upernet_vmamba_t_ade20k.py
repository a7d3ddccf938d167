"""UPerNet, VMamba-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
