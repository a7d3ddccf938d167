"""CLIP, a small Vim without pretrained weights, miniature captions: trains in a few minutes on two CPU cores.

The data set is drawn by `python tools/make_miniature.py captions --out data/captions_miniature --train 4000 --val 100`.
"""

_base_ = [
    '../_base_/models/clip.py',
    '../_base_/datasets/coco_captions_224.py',
    '../_base_/schedules/adamw_32e_clip.py',
    '../_base_/default_runtime_pretrain.py',
]
data_root = 'data/captions_miniature/'

model = dict(
    backbone=dict(
        type='mmvim.Vim',
        arch=dict(embed_dims=128, depth=4, patch_size=16, patch_stride=16),
        pretrain_img_size=112,
        out_indices=-1,
        final_norm=True,
    ),
    embed_dims=128,
    text=dict(dims=128, depth=2, num_heads=4),
)
# The pictures are 128 x 128: a little of them is cut off in training.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmvim.RandomResizedCrop', scale=112, area=(0.8, 1.0), ratio=(1.0, 1.0)),
    dict(type='mmvim.DrawCaption'),
    dict(type='mmvim.PackCaptions'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='mmvim.PackCaptions')]
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

optim_wrapper = dict(optimizer=dict(lr=2e-3))
epochs = 8
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=2)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=epochs, max_keep_ckpts=1))
log_processor = dict(window_size=20)
auto_scale_lr = dict(base_batch_size=64)
