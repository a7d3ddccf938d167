"""ImageNet-1k validation: short side 256, centre of 224 x 224, as the published accuracies were measured."""

test_pipeline = [dict(type='mmvim.LoadForClassifier', resize=256, crop=224)]
test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmvim.ImageNet',
        data_root='data/imagenet',
        data_prefix=dict(img='val'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='mmvim.Accuracy')
test_cfg = dict()
