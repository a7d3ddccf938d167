"""Cascade Mask R-CNN, DeiT-Ti, COCO, 100 epochs: Vim-Ti's config, which is ViTDet's, with another backbone."""

_base_ = '../vim/cascade_mask_rcnn_vim_t_coco.py'
# Published at github.com/facebookresearch/deit.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvim.DeiT',
        arch='tiny',
        out_indices=-1,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='weights/deit_tiny_patch16_224-a1311bcf.pth'),
    ),
)
# ViTDet's own, for 12 blocks. Vim's 0.837 is its root, for 24.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
