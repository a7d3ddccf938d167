"""MambaVision-S, ImageNet-1k: the published classifier."""

_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_imagenet.py',
]
model = dict(
    backbone=dict(type='mmvim.MambaVision', arch='small', out_indices=3),
    head=dict(type='mmvim.BatchNormHead', in_channels=768),
    norm_maps=False,
)
test_pipeline = [dict(type='mmvim.LoadForClassifier', resize=240, crop=224)]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
