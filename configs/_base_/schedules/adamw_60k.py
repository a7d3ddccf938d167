"""60k iterations of AdamW at batch 32 with a linear fall of the rate: upstream's segmentation recipe."""

_base_ = ['./seg_iter.py', './adamw_vim.py']
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=60000),
]
train_cfg = dict(max_iters=60000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
auto_scale_lr = dict(base_batch_size=32)  # 4 GPUs x 8 images
