"""100 epochs of AdamW at batch 2048, 10 of them to warm up, then a cosine: SimMIM's shorter schedule.

Section 4.1 of arXiv 2111.09886. The ends of the cosine and of the warm-up are those of microsoft/SimMIM
(configs/swin_base__100ep), whose rates are for a batch of 512.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=8e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # No decay of norms, biases and positions, as there, and of the scans' A.
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=4e-6 / 8e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=4e-5, by_epoch=True, begin=10, end=100, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100)
auto_scale_lr = dict(base_batch_size=2048)  # 8 GPUs x 256 images
