"""CLIP (arXiv 2103.00020) with a text transformer of half its layers and three quarters of its width."""

model = dict(
    type='mmvim.CLIP',
    embed_dims=512,
    text=dict(context_length=77, dims=384, depth=6, num_heads=6),
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
)
