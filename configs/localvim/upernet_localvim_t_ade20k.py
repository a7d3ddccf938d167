"""UPerNet, LocalVim-T, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_localvim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_localvim.py',
    '../_base_/default_runtime_seg.py',
]
# Published at github.com/hunto/LocalMamba/releases/tag/v1.0.0.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vim_tiny.ckpt'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
