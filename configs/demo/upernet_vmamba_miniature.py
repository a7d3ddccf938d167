"""UPerNet, a small VMamba without pretrained weights, 100 miniature scenes: what `make demo-pretrain` compares with.

The scenes are drawn by `python tools/make_miniature.py ade20k --out data/ade_miniature_100 --train 100 --val 200`.
"""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k_pyramid.py',
    '../_base_/default_runtime_seg.py',
]
# The classes that are drawn. What would be another of ADE20K's 150 is left out, so that mIoU is a mean over these.
classes = (
    'building', 'sky', 'tree', 'road', 'grass', 'person', 'mountain', 'car', 'water', 'boat', 'airplane', 'animal',
)  # fmt: skip
data_root = 'data/ade_miniature_100/ADEChallengeData2016'

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=32, depths=(1, 1, 2)),
        out_indices=(0, 1, 2),
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        in_channels=[32, 64, 128], in_index=[0, 1, 2], channels=64, dropout_ratio=0.0, num_classes=len(classes)
    ),
    auxiliary_head=dict(in_channels=128, channels=64, dropout_ratio=0.0, num_classes=len(classes)),
)

# The pictures are 128 x 128, and keep the grain of their textures.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# Pictures this small are read faster than a worker process could hand them over.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=test_pipeline),
)
test_dataloader = val_dataloader

iterations = 200
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20, end=iterations),
]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=iterations, max_keep_ckpts=1, save_best=None))
auto_scale_lr = dict(base_batch_size=8)
