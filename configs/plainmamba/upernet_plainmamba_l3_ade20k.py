"""UPerNet, PlainMamba-L3, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_plainmamba.py',
    '../_base_/datasets/ade20k_to_32.py',
    '../_base_/schedules/adamw_160k_plainmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l3.pth.
model = dict(
    backbone=dict(
        arch='l3',
        out_indices=(8, 17, 26, 35),
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l3.pth'),
    ),
    decode_head=dict(in_channels=[448, 448, 448, 448]),
    auxiliary_head=dict(in_channels=448),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
sync_bn = 'torch'  # of the backbone too, where several GPUs train
