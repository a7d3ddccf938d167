"""Mask R-CNN, a small VMamba without pretrained weights, miniature COCO: trains in a few minutes on two CPU cores.

The data set is drawn by `python tools/make_miniature.py coco --out data/coco_miniature`.
"""

_base_ = [
    '../_base_/models/mask_rcnn_vmamba.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_vmamba.py',
    '../_base_/default_runtime_det.py',
]
# The classes that are drawn.
metainfo = dict(
    classes=('person', 'car', 'airplane', 'boat', 'dog'),
    palette=[(220, 20, 60), (0, 0, 142), (165, 42, 42), (106, 0, 228), (255, 179, 240)],
)
data_root = 'data/coco_miniature/'

channels = 64
regions = dict(out_channels=channels, featmap_strides=[4, 8, 16])
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvim.VMamba',
        arch=dict(embed_dims=32, depths=(1, 1, 2)),
        out_indices=(0, 1, 2),
    ),
    neck=dict(in_channels=[32, 64, 128], out_channels=channels, num_outs=3),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16]),
    ),
    roi_head=dict(
        bbox_roi_extractor=regions,
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=5),
        mask_roi_extractor=regions,
        mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels, num_classes=5),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=48)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100), rcnn=dict(max_per_img=20)),
)

# The pictures keep their 128 x 128 pixels.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# Pictures this small are read faster than a worker process could hand them over.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, filter_cfg=dict(min_size=8), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# One rate for all parameters: nothing is pretrained, so nothing is to be kept.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=8, T_max=8, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=8, val_interval=4)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=4, max_keep_ckpts=1, save_best=None))
log_processor = dict(window_size=25)
auto_scale_lr = dict(base_batch_size=8)
