"""Images without labels, pieces of 192 x 192: ImageNet-1k's, or those of any folder given as data_root.

Light augmentation as in section 4.1 of arXiv 2111.09886: 67 to 100 % of the area, aspect ratio 3/4 to 4/3, flips.
"""

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmvim.RandomResizedCrop', scale=192, area=(0.67, 1.0), ratio=(3 / 4, 4 / 3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmvim.PackImage'),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmvim.ImageFolder',
        data_root='data/imagenet/train',
        pipeline=train_pipeline,
    ),
)
