"""UPerNet, VMamba-T, Synapse, 40k iterations, slices of 224. Ours: the authors published none."""

_base_ = [
    '../_base_/models/upernet_vmamba.py',
    '../_base_/datasets/synapse.py',
    '../_base_/schedules/adamw_40k_vmamba.py',
    '../_base_/default_runtime_seg.py',
]
# Size and batch: mmseg's _base_/datasets/synapse.py. It has no model for it, and no length: that of the vessels.
model = dict(
    data_preprocessor=dict(size=(224, 224)),
    # Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='weights/vssm1_tiny_0230s_ckpt_epoch_264.pth')),
    decode_head=dict(num_classes=9),
    auxiliary_head=dict(num_classes=9),
)
auto_scale_lr = dict(base_batch_size=24)  # 4 GPUs x 6 images
default_hooks = dict(checkpoint=dict(save_best='mDice'))
