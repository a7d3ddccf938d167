"""Cascade Mask R-CNN, DeiT-S, COCO, 100 epochs: Vim-S's config, which is ViTDet's, with another backbone."""

_base_ = '../vim/cascade_mask_rcnn_vim_s_coco.py'
# Published at github.com/facebookresearch/deit.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvim.DeiT',
        arch='small',
        out_indices=-1,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='weights/deit_small_patch16_224-cd65a155.pth'),
    ),
)
# ViTDet's own, for 12 blocks. Vim's 0.837 is its root, for 24.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
