"""800 epochs of AdamW at batch 2048, 10 of them to warm up, and a tenth of the rate from epoch 700: SimMIM's long one.

Of microsoft/SimMIM (configs/swin_base__800ep), whose rates are for a batch of 512.
"""

_base_ = './adamw_100e_simmim.py'
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[700], gamma=0.1, by_epoch=True, begin=10, end=800),
]
train_cfg = dict(max_epochs=800)
