"""ImageNet-1k validation without a margin: short side 224, its centre, as MambaOut's accuracies were measured."""

_base_ = './imagenet.py'
test_pipeline = [dict(type='mmvim.LoadForClassifier', resize=224, crop=224)]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
