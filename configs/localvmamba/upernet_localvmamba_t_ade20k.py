"""UPerNet, LocalVMamba-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_localvmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Of github.com/hunto/LocalMamba/releases/tag/v1.0.0, if it is there: the authors name it, and were training it anew.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vssm_tiny.ckpt'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
# Upstream's name of the norm in downsampling has `norm` in it, that of the norm in the patch embedding has not.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'downsample.norm': dict(decay_mult=0.0)}))
