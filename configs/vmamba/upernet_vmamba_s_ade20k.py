"""UPerNet, VMamba-S, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssm_small_0229_ckpt_epoch_222.pth'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
