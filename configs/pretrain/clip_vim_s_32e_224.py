"""CLIP, Vim-S, 32 epochs of COCO captions at 224 x 224."""

_base_ = [
    '../_base_/models/clip.py',
    '../_base_/datasets/coco_captions_224.py',
    '../_base_/schedules/adamw_32e_clip.py',
    '../_base_/default_runtime_pretrain.py',
]
# The last norm of the classifier stands in front of the mean; dense models leave it out of the file.
model = dict(backbone=dict(type='mmvim.Vim', arch='small', pretrain_img_size=224, out_indices=-1, final_norm=True))
