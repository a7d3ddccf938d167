"""UPerNet, MambaVision-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_mambavision.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_mambavision.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/nvidia/MambaVision-T-1K; not for commercial use.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambavision_tiny_1k.pth.tar'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
