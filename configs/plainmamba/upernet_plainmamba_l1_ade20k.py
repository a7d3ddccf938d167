"""UPerNet, PlainMamba-L1, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_plainmamba.py',
    '../_base_/datasets/ade20k_to_32.py',
    '../_base_/schedules/adamw_160k_plainmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Published at huggingface.co/ChenhongyiYang/PlainMamba/blob/main/l1.pth.
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='weights/plainmamba_l1.pth'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
sync_bn = 'torch'  # of the backbone too, where several GPUs train
