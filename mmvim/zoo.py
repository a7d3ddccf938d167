"""Where official weights are published."""

# File -> repository. The part before `_midclstok` is the model, `ft` is fine-tuned at half the stride ("Vim+").
OFFICIAL_WEIGHTS = {
    'vim_t_midclstok_76p1acc.pth': 'huggingface.co/hustvl/Vim-tiny-midclstok',
    'vim_t_midclstok_ft_78p3acc.pth': 'huggingface.co/hustvl/Vim-tiny-midclstok',
    'vim_s_midclstok_80p5acc.pth': 'huggingface.co/hustvl/Vim-small-midclstok',
    'vim_s_midclstok_ft_81p6acc.pth': 'huggingface.co/hustvl/Vim-small-midclstok',
    'vim_b_midclstok_81p9acc.pth': 'huggingface.co/hustvl/Vim-base-midclstok',
}

# VMamba's release tags and their files: classifiers, then what was trained from them.
_VMAMBA = {
    'v2cls': (
        'vssm1_tiny_0230s_ckpt_epoch_264.pth',
        'vssm_tiny_0230_ckpt_epoch_262.pth',
        'vssm_small_0229_ckpt_epoch_222.pth',
        'vssm_base_0229_ckpt_epoch_237.pth',
        'vssm1_small_0229s_ckpt_epoch_240.pth',
        'vssm1_base_0229s_ckpt_epoch_225.pth',
    ),
    'v0cls': (
        'vssmtiny_dp01_ckpt_epoch_292.pth',
        'vssmsmall_dp03_ckpt_epoch_238.pth',
        'vssmbase_dp06_ckpt_epoch_241.pth',
        'vssmbase_dp05_ckpt_epoch_260.pth',
    ),
    'v2det': (
        'mask_rcnn_vssm_fpn_coco_tiny_s_epoch_12.pth',
        'mask_rcnn_vssm_fpn_coco_tiny_epoch_12.pth',
        'mask_rcnn_vssm_fpn_coco_small_epoch_11.pth',
        'mask_rcnn_vssm_fpn_coco_base_epoch_11.pth',
        'mask_rcnn_vssm_fpn_coco_base_epoch_12_bs8.pth',
        'mask_rcnn_vssm_fpn_coco_tiny_ms_3x_s_epoch_31.pth',
        'mask_rcnn_vssm_fpn_coco_tiny_ms_3x_epoch_36.pth',
        'mask_rcnn_vssm_fpn_coco_small_ms_3x_epoch_32.pth',
    ),
    'v2seg': (
        'upernet_vssm_4xb4-160k_ade20k-512x512_tiny_s_iter_160000.pth',
        'upernet_vssm_4xb4-160k_ade20k-512x512_tiny_iter_160000.pth',
        'upernet_vssm_4xb4-160k_ade20k-512x512_small_iter_144000.pth',
        'upernet_vssm_4xb4-160k_ade20k-512x512_base_iter_160000.pth',
    ),
    'v0det': (
        'vssmtiny_mask_rcnn_swin_fpn_coco_epoch_12.pth',
        'vssmsmall_mask_rcnn_swin_fpn_coco_epoch_12.pth',
        'vssmbase_mask_rcnn_swin_fpn_coco_epoch_12.pth',
        'vssmtiny_mask_rcnn_swin_fpn_coco_ms_3x_epoch_34.pth',
        'vssmsmall_mask_rcnn_swin_fpn_coco_ms_3x_epoch_34.pth',
    ),
    'v0seg': (
        'vssmtiny_upernet_4xb4-160k_ade20k-512x512_iter_160000.pth',
        'vssmsmall_upernet_4xb4-160k_ade20k-512x512_iter_160000.pth',
        'vssmbase_upernet_4xb4-160k_ade20k-512x512_iter_128000.pth',
    ),
}
OFFICIAL_WEIGHTS |= {
    # The tags themselves begin with a #.
    file: f'github.com/MzeroMiko/VMamba/releases/tag/%23{tag}'
    for tag, files in _VMAMBA.items()
    for file in files
}
