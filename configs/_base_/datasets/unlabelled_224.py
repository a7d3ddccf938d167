"""Images without labels, pieces of 224 x 224."""

_base_ = './unlabelled_192.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmvim.RandomResizedCrop', scale=224, area=(0.67, 1.0), ratio=(3 / 4, 4 / 3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmvim.PackImage'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
