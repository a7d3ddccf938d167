"""SimMIM, VMamba-T, 800 epochs of pieces of 192 x 192: the paper's longer schedule."""

_base_ = [
    '../_base_/models/simmim.py',
    '../_base_/datasets/unlabelled_192.py',
    '../_base_/schedules/adamw_800e_simmim.py',
    '../_base_/default_runtime_pretrain.py',
]
model = dict(backbone=dict(type='mmvim.VMamba', arch='tiny', out_indices=3))
