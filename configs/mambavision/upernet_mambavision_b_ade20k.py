"""UPerNet, MambaVision-B, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_mambavision.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_mambavision.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/nvidia/MambaVision-B-1K; not for commercial use.
model = dict(
    backbone=dict(
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambavision_base_1k.pth.tar'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
