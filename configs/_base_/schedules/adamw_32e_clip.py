"""32 epochs of AdamW at batch 1024, the first to warm up, then a cosine.

Epochs, rate, betas, eps and decay are those of the vision transformers in appendix F of arXiv 2103.00020 (tables 18 and
20), where a batch has 32,768 pairs and the warm-up takes 2,000 of some 400,000 iterations: COCO has too few images for
either.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2),
    # No decay of gains, biases and the temperature, as there, and of positions and the scans' A.
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=1, end=32, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=32, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024)  # 8 GPUs x 128 pairs
