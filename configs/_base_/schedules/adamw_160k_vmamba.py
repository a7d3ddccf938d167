"""160k iterations of AdamW at batch 16, a linear fall of the rate: VMamba's segmentation recipe, which is Swin's."""

_base_ = ['./seg_iter.py', './adamw_vmamba.py']
optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))
