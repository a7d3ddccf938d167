"""UPerNet, PlainMamba-L2, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_plainmamba.py',
    '../_base_/datasets/ade20k_to_32.py',
    '../_base_/schedules/adamw_160k_plainmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l2.pth.
model = dict(
    backbone=dict(
        arch='l2',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l2.pth'),
    ),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
sync_bn = 'torch'  # of the backbone too, where several GPUs train
