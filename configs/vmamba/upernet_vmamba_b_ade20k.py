"""UPerNet, VMamba-B, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.6,
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssm_base_0229_ckpt_epoch_237.pth'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
