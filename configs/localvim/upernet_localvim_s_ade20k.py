"""UPerNet, LocalVim-S, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_localvim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_localvim.py',
    '../_base_/default_runtime_seg.py',
]
# Of github.com/hunto/LocalMamba/releases/tag/v1.0.0, if it is there: the authors name it, and link another file.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/local_vim_small.ckpt'),
    ),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
