"""ImageNet-1k validation by sentences about its classes: three of those in the notebooks of openai/CLIP.

data/imagenet/classes.txt has the name of one class in each line, in the order of the folders' names.
"""

_base_ = './imagenet.py'
model = dict(
    prompts=dict(
        classes='data/imagenet/classes.txt',
        templates=['a photo of a {}.', 'a photo of the large {}.', 'a photo of the small {}.'],
    ),
    data_preprocessor=dict(bgr_to_rgb=False),  # the images come as RGB
)
