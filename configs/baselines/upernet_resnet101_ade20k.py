"""UPerNet, ResNet-101, ADE20K, 160k iterations, crops of 512."""

_base_ = [
    '../_base_/models/upernet_resnet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/sgd_160k.py',
    '../_base_/default_runtime_seg.py',
]
# Published at download.openmmlab.com/pretrain/third_party, in the names of mmseg.
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='weights/resnet101_v1c-e67eebb6.pth'),
    ),
)
train_dataloader = dict(batch_size=2)  # x 8 GPUs
