"""UPerNet, EfficientVMamba-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_efficientvmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_pyramid.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/TerryPei/EfficientVMamba-Tiny.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/efficient_vmamba_tiny.ckpt'),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))
train_dataloader = dict(batch_size=2)  # x 8 GPUs
