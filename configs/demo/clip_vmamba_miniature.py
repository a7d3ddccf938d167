"""CLIP, a small VMamba without pretrained weights, miniature captions: trains in some minutes on two CPU cores.

The data set is drawn by
`python tools/make_miniature.py captions --out data/captions_miniature --train 20000 --val 100 --size 64x64`.
"""

_base_ = [
    '../_base_/models/clip.py',
    '../_base_/datasets/coco_captions_224.py',
    '../_base_/schedules/adamw_32e_clip.py',
    '../_base_/default_runtime_pretrain.py',
]
data_root = 'data/captions_miniature/'

model = dict(
    backbone=dict(type='mmvim.VMamba', arch=dict(embed_dims=32, depths=(1, 1, 2)), out_indices=2),
    embed_dims=128,
    text=dict(dims=96, depth=2, num_heads=4),
)
# The pictures keep their 64 x 64 pixels. Their colours are chance whatever they show, and would only be remembered.
grey = dict(type='RandomGrayscale', prob=1.0, keep_channels=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    grey,
    dict(type='mmvim.DrawCaption'),
    dict(type='mmvim.PackCaptions'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    grey,
    dict(type='mmvim.PackCaptions'),
]
# Pictures this small are read faster than a worker process could hand them over.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=1.5e-3, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=8, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=8, val_interval=1)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=1, max_keep_ckpts=1))
log_processor = dict(window_size=25)
auto_scale_lr = dict(base_batch_size=64)
