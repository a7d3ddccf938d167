"""CLIP, VMamba-T, 32 epochs of COCO captions at 224 x 224."""

_base_ = [
    '../_base_/models/clip.py',
    '../_base_/datasets/coco_captions_224.py',
    '../_base_/schedules/adamw_32e_clip.py',
    '../_base_/default_runtime_pretrain.py',
]
model = dict(backbone=dict(type='mmvim.VMamba', arch='tiny', out_indices=3))
