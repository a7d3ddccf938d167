"""Cascade Mask R-CNN with ViTDet's heads on a plain Vim; variants change the width."""

_base_ = './mask_rcnn.py'
# Normalises each position over its channels. The heads of ViTDet use it wherever they have a convolution.
norm_cfg = dict(type='mmvim.models.layers.LayerNorm2d', eps=1e-6)
model = dict(
    type='CascadeRCNN',
    # Every image becomes a square of 1024, in training and in test.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(type='mmvim.Vim', arch='tiny', out_indices=-1, drop_path_rate=0.1),
    neck=dict(type='mmvim.SimplePyramid', in_channels=192, out_channels=256),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        # detectron2 weighs the stages alike and divides the gradient that leaves their heads by three.
        stage_loss_weights=[1 / 3, 1 / 3, 1 / 3],
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                norm_cfg=norm_cfg,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    # 1 / 10 and 1 / 5, then halved, then thirds
                    target_stds=[0.1 / stage, 0.1 / stage, 0.2 / stage, 0.2 / stage],
                ),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            )
            for stage in (1, 2, 3)
        ],
        mask_head=dict(norm_cfg=norm_cfg),
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
)
