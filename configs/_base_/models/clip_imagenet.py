"""CLIP as a classifier of ImageNet-1k by sentences about its classes, without training on them.

data/imagenet/classes.txt has the name of one class in each line, in the order of the folders' names.
"""

_base_ = './clip.py'
model = dict(
    prompts=dict(
        classes='data/imagenet/classes.txt',
        templates=['a photo of a {}.', 'a large {}.', 'a small {}.', 'a picture of the {}.'],
    ),
    data_preprocessor=dict(bgr_to_rgb=False),  # the images come as RGB
)
