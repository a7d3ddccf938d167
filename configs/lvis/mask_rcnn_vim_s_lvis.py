"""Mask R-CNN, Vim-S, LVIS v1, 12 epochs. Ours: the authors published none."""

_base_ = [
    '../_base_/models/mask_rcnn_vim.py',
    '../_base_/datasets/lvis_v1_instance.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/default_runtime_det.py',
]
# The two lines at the end are those of mmdet's mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1: rare classes score low,
# and LVIS counts up to 300 boxes of an image.
# Published as hustvl/Vim-small-midclstok on huggingface.co.
model = dict(
    backbone=dict(
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vim_s_midclstok_80p5acc.pth'),
    ),
    neck=dict(in_channels=384),
    roi_head=dict(bbox_head=dict(num_classes=1203), mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)),
)
default_hooks = dict(checkpoint=dict(save_best='lvis/segm_AP', rule='greater'))
