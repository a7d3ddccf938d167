"""184,375 iterations of AdamW at batch 64, 100 epochs of COCO: LocalVim's detection recipe, which is ViTDet's."""

_base_ = './adamw_184k.py'
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    clip_grad=dict(max_norm=35, norm_type=2),
    paramwise_cfg=dict(
        # Upstream looks for `backbone.blocks`, which LocalVim calls `layers`: of the smaller rates of 12 layers the
        # embeddings alone get theirs, and the norms that it would exempt from weight decay are not found either.
        layer_decay_rate=1.0,
        custom_keys={'patch_embed': dict(lr_mult=0.7**13), 'pos_embed': dict(lr_mult=0.7**13)},
    ),
)
