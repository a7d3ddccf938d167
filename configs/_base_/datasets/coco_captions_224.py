"""COCO captions, pieces of 224 x 224 and in training one of the captions by chance.

The paper (section 2.4 of arXiv 2103.00020) augments by nothing but a random square of the resized image; here it has
half of the area or more. There are no flips: captions tell left from right.
"""

data_root = 'data/coco/'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmvim.RandomResizedCrop', scale=224, area=(0.5, 1.0), ratio=(1.0, 1.0)),
    dict(type='mmvim.DrawCaption'),
    dict(type='mmvim.PackCaptions'),
]
# The short side to 224, then the middle.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(10000, 224), keep_ratio=True),
    dict(type='CenterCrop', crop_size=224),
    dict(type='mmvim.PackCaptions'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmvim.CocoCaptions',
        data_root=data_root,
        ann_file='annotations/captions_train2017.json',
        data_prefix=dict(img='train2017'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmvim.CocoCaptions',
        data_root=data_root,
        ann_file='annotations/captions_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmvim.Retrieval', topk=(1, 5))
test_evaluator = val_evaluator
