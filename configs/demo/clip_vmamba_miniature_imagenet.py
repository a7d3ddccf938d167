"""The model of clip_vmamba_miniature.py as a classifier of single drawn things, without training on their classes.

These pictures have colours, which that model was not trained with: what it reaches says little.
The data set is drawn by `python tools/make_miniature.py imagenet --out data/imagenet_miniature --size 64x64`.
"""

_base_ = './clip_vmamba_miniature.py'
model = dict(
    # In the order of the folders' names, which are WordNet's ids.
    prompts=dict(
        classes=['person', 'dog', 'airplane', 'boat', 'car'],
        templates=['a {} in the middle', 'a {} on the left', 'a {} on the right'],
    ),
    data_preprocessor=dict(bgr_to_rgb=False),  # the images come as RGB
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmvim.ImageNet',
        num_classes=5,
        data_root='data/imagenet_miniature/imagenet',
        data_prefix=dict(img='val'),
        pipeline=[dict(type='mmvim.LoadForClassifier', resize=64, crop=64)],
    ),
)
test_evaluator = dict(_delete_=True, type='mmvim.Accuracy', topk=(1,))
