"""UPerNet, the first VMamba-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v0cls.
model = dict(
    backbone=dict(
        arch='v0_tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='weights/vssmtiny_dp01_ckpt_epoch_292.pth'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
# Here upstream's names of the norms in patch embedding and downsampling have `norm` in them.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'patch_embed.0.norm': dict(decay_mult=0.0), 'downsample.norm': dict(decay_mult=0.0)},
    ),
)
