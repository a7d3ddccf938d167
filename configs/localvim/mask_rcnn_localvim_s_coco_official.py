"""Mask R-CNN, LocalVim-S, COCO, as upstream has it to the letter."""

_base_ = './mask_rcnn_localvim_s_coco.py'
model = dict(
    backbone=dict(
        # Heads see what the blocks add to the residual stream, not the stream.
        feature='branch',
        # The published weights are made for RMS norms.
        norm='layer',
        # Right on square maps alone.
        legacy_reverse=True,
        init_cfg=None,  # as in upstream's config
    )
)
