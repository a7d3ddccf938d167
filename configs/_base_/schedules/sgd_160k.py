"""160k iterations of SGD at batch 16: the recipe that mmseg trains ResNets by. Everything is decayed."""

_base_ = './adamw_60k.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=1.0, bias_decay_mult=1.0, flat_decay_mult=1.0),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, by_epoch=False, begin=0, end=160000)]
train_cfg = dict(max_iters=160000, val_interval=16000)
default_hooks = dict(checkpoint=dict(interval=16000))
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2 images
