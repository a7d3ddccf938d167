"""Cascade Mask R-CNN, Vim-Ti, COCO, as upstream has it to the letter."""

_base_ = './cascade_mask_rcnn_vim_t_coco.py'
model = dict(
    backbone=dict(
        # Tokens and residual stream are rotated by their position in front of each block.
        rope=True,
        rope_residual=True,
        # Upstream's default when its config was published; the published ImageNet weights are made for halved sums.
        average_directions=False,
        # Upstream starts from ImageNet weights with RoPE, which were never published: name your own here.
        init_cfg=None,
    )
)
