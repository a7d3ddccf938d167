"""A classifier with ImageNet's mean and deviation; backbone and head are the child's."""

model = dict(
    type='mmvim.ImageClassifier',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    head=dict(type='mmvim.LinearHead'),
)
