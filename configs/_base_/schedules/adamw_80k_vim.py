"""80k iterations of AdamW, a linear fall of the rate: Vim's segmentation recipe at a length of mmseg's."""

_base_ = ['./seg_iter.py', './adamw_vim.py']
optim_wrapper = dict(optimizer=dict(lr=5e-5))  # half of that at batch 32
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=80000),
]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))
