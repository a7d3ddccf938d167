"""AdamW with the groups that upstream's segmentation gives to Vim's parameters; the length is another's."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmvim.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.95,
        # Upstream looks for `backbone.blocks`, which Vim calls `layers`: only the embeddings get a smaller rate.
        only_embeddings=True,
        # Decayed by accident: upstream does not read the mark that exempts A_log, and looks for a `pos_embed` without
        # `backbone.` in front.
        custom_keys={'A_logs': dict(decay_mult=1.0), 'pos_embed': dict(decay_mult=1.0)},
    ),
)
