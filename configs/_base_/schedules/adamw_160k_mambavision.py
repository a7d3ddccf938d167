"""160k iterations of AdamW at batch 16, a linear fall of the rate: MambaVision's segmentation recipe."""

_base_ = ['./seg_iter.py', './adamw_mambavision.py']
optim_wrapper = dict(optimizer=dict(lr=5e-5, weight_decay=0.01))
