"""12 epochs of AdamW at batch 16: VMamba's detection recipe, which is Swin's."""

_base_ = ['./det_1x.py', './adamw_vmamba.py']
