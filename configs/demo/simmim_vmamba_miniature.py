"""SimMIM, a small VMamba, 4,000 unlabelled miniature scenes: the first half of `make demo-pretrain`.

The scenes are drawn by `python tools/make_miniature.py unlabelled --out data/unlabelled_miniature --train 4000`.
"""

_base_ = [
    '../_base_/models/simmim.py',
    '../_base_/datasets/unlabelled_192.py',
    '../_base_/schedules/adamw_100e_simmim.py',
    '../_base_/default_runtime_pretrain.py',
]
model = dict(
    mask_patch_size=16,
    backbone=dict(type='mmvim.VMamba', arch=dict(embed_dims=32, depths=(1, 1, 2)), out_indices=2),
)
# The pictures are 128 x 128, and keep the grain of their textures.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmvim.PackImage'),
]
# Pictures this small are read faster than a worker process could hand them over.
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='data/unlabelled_miniature/train', pipeline=train_pipeline),
)

randomness = dict(seed=0)

epochs = 10
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=1, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=1, max_keep_ckpts=1))
log_processor = dict(window_size=25)
auto_scale_lr = dict(base_batch_size=32)
