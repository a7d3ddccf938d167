"""SimMIM: 60 % of squares of 32 x 32 pixels hidden (table 1 and 2 of arXiv 2111.09886)."""

model = dict(
    type='mmvim.SimMIM',
    mask_patch_size=32,
    mask_ratio=0.6,
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
)
