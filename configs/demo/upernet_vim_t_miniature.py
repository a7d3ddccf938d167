"""UPerNet, Vim-Ti without pretrained weights, miniature ADE20K: trains in one to two minutes on two CPU cores.

Without the compiled kernels it takes about six times as long. The data set is drawn by
`python tools/make_miniature.py ade20k --out data/ade_miniature`.
"""

_base_ = [
    '../_base_/models/upernet_vim.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_60k.py',
    '../_base_/default_runtime_seg.py',
]
# The classes that are drawn. What would be another of ADE20K's 150 is left out, so that mIoU is a mean over these.
classes = (
    'building', 'sky', 'tree', 'road', 'grass', 'person', 'mountain', 'car', 'water', 'boat', 'airplane', 'animal',
)  # fmt: skip
data_root = 'data/ade_miniature/ADEChallengeData2016'
crop_size = (64, 64)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(drop_path_rate=0.0),
    decode_head=dict(channels=64, dropout_ratio=0.0, num_classes=len(classes)),
    auxiliary_head=dict(channels=64, dropout_ratio=0.0, num_classes=len(classes)),
    test_cfg=dict(_delete_=True, mode='whole'),
)

# The pictures are 128 x 128 and keep their size: their textures are made for patches of 16 x 16 pixels.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=crop_size),
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
    batch_size=16,
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

# One rate for all parameters: nothing is pretrained, so nothing is to be kept.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=200),
]
train_cfg = dict(max_iters=200, val_interval=100)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=100, max_keep_ckpts=1, save_best=None))
log_processor = dict(window_size=25)
auto_scale_lr = dict(base_batch_size=16)
