"""UPerNet, VMamba-S, VSPW, 80k iterations, crops of 480 x 480. Ours: the authors published none."""

_base_ = './upernet_vmamba_t_vspw.py'
# Published at github.com/MzeroMiko/VMamba/releases/tag/%23v2cls.
model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='weights/vssm_small_0229_ckpt_epoch_222.pth'),
    ),
)
