"""UPerNet, DeiT-S, ADE20K: Vim-S's config with another backbone."""

_base_ = '../vim/upernet_vim_s_ade20k.py'
# Published at github.com/facebookresearch/deit.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvim.DeiT',
        arch='small',
        out_indices=(2, 5, 8, 11),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='weights/deit_small_patch16_224-cd65a155.pth'),
    ),
)
# DeiT has half as many blocks: about 0.95 squared leaves the embeddings the same rate.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
