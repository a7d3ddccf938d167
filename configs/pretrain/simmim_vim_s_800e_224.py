"""SimMIM, Vim-S, 800 epochs of pieces of 224 x 224: the paper's longer schedule."""

_base_ = [
    '../_base_/models/simmim.py',
    '../_base_/datasets/unlabelled_224.py',
    '../_base_/schedules/adamw_800e_simmim.py',
    '../_base_/default_runtime_pretrain.py',
]
# The last norm of the classifier stands in front of the decoder; dense models leave it out of the file.
model = dict(backbone=dict(type='mmvim.Vim', arch='small', pretrain_img_size=224, out_indices=-1, final_norm=True))
