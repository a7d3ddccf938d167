"""UPerNet, MambaVision-S, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_mambavision.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_mambavision.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/nvidia/MambaVision-S-1K; not for commercial use.
model = dict(
    backbone=dict(
        arch='small',
        window_sizes=(160, 56),
        init_cfg=dict(type='Pretrained', checkpoint='weights/mambavision_small_1k.pth.tar'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5))
train_dataloader = dict(batch_size=2)  # x 8 GPUs
