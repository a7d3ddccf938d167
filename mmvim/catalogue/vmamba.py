"""VMamba: nine published classifiers, and the detectors and segmentors that were trained from them."""

from .records import Family, Flops, Model, OfficialFile, Published

_REPOSITORY = 'MzeroMiko/VMamba'
_README = f'README of {_REPOSITORY}'
_SCRIPT = f'one-file script of {_REPOSITORY}'
_COUNT = f'analyze/flops.py of {_REPOSITORY}'

_CLASSIFIERS = (
    # variant, title, tag, file, parameters, top-1, top-5, GFLOPs
    ('vmamba_t', 'VMamba-T', 'v2cls', 'vssm1_tiny_0230s_ckpt_epoch_264.pth', 30_249_064, 82.6, None, 4.9),
    ('vmamba_t_s2l5', 'VMamba-T, s2l5', 'v2cls', 'vssm_tiny_0230_ckpt_epoch_262.pth', 30_705_832, 82.489, 95.996, 4.9),
    ('vmamba_s', 'VMamba-S', 'v2cls', 'vssm_small_0229_ckpt_epoch_222.pth', 50_147_752, 83.649, 96.594, 8.7),
    ('vmamba_b', 'VMamba-B', 'v2cls', 'vssm_base_0229_ckpt_epoch_237.pth', 88_557_800, 83.879, 96.712, 15.4),
    ('vmamba_s_s1l20', 'VMamba-S, s1l20', 'v2cls',
     'vssm1_small_0229s_ckpt_epoch_240.pth', 49_012_840, 83.339, 96.426, 8.6),
    ('vmamba_b_s1l20', 'VMamba-B, s1l20', 'v2cls',
     'vssm1_base_0229s_ckpt_epoch_225.pth', 86_614_504, 83.791, 96.614, 15.2),
    ('vmamba_v0_t', 'first VMamba-T', 'v0cls', 'vssmtiny_dp01_ckpt_epoch_292.pth', 22_893_448, 82.171, 96.032, 5.6),
    ('vmamba_v0_s', 'first VMamba-S', 'v0cls', 'vssmsmall_dp03_ckpt_epoch_238.pth', 44_417_416, 83.461, 96.470, 11.2),
    ('vmamba_v0_b', 'first VMamba-B', 'v0cls', 'vssmbase_dp06_ckpt_epoch_241.pth', 76_254_056, 83.729, 96.624, 18.0),
)  # fmt: skip
_DETECTORS = (
    # variant, what else is in the name, tag, file, parameters, (GFLOPs, source),
    # box AP, AP50, AP75, mask AP, AP50, AP75
    ('vmamba_t', '', 'v2det', 'mask_rcnn_vssm_fpn_coco_tiny_s_epoch_12.pth', 49_755_312, (271.16, _COUNT),
     47.3, 69.3, 52.0, 42.7, 66.4, 45.9),
    ('vmamba_t_s2l5', '', 'v2det', 'mask_rcnn_vssm_fpn_coco_tiny_epoch_12.pth', 50_212_080, (270.19, _COUNT),
     47.4, 69.5, 52.0, 42.7, 66.3, 46.0),
    ('vmamba_s', '', 'v2det', 'mask_rcnn_vssm_fpn_coco_small_epoch_11.pth', 69_654_000, (348.92, _COUNT),
     48.7, 70.0, 53.4, 43.7, 67.3, 47.0),
    ('vmamba_b', '', 'v2det', 'mask_rcnn_vssm_fpn_coco_base_epoch_11.pth', 107_931_376, (485.50, _COUNT),
     49.2, 71.4, 54.0, 44.1, 68.3, 47.7),
    ('vmamba_b', '_bs8', 'v2det', 'mask_rcnn_vssm_fpn_coco_base_epoch_12_bs8.pth', 107_931_376, (485.50, _COUNT),
     49.2, 70.9, 53.9, 43.9, 67.7, 47.6),
    ('vmamba_t', '_3x', 'v2det', 'mask_rcnn_vssm_fpn_coco_tiny_ms_3x_s_epoch_31.pth', 49_755_312, (271.16, _COUNT),
     48.8, 70.4, 53.5, 43.7, 67.4, 47.0),
    ('vmamba_t_s2l5', '_3x', 'v2det', 'mask_rcnn_vssm_fpn_coco_tiny_ms_3x_epoch_36.pth', 50_212_080, (270.19, _COUNT),
     48.9, 70.6, 53.6, 43.7, 67.7, 46.8),
    ('vmamba_s', '_3x', 'v2det', 'mask_rcnn_vssm_fpn_coco_small_ms_3x_epoch_32.pth', 69_654_000, (348.92, _COUNT),
     49.9, 70.9, 54.7, 44.2, 68.2, 47.7),
    ('vmamba_v0_t', '', 'v0det', 'vssmtiny_mask_rcnn_swin_fpn_coco_epoch_12.pth', 42_399_696, (286, _README),
     46.5, 68.5, 50.7, 42.1, 65.5, 45.3),
    ('vmamba_v0_s', '', 'v0det', 'vssmsmall_mask_rcnn_swin_fpn_coco_epoch_12.pth', 63_923_664, (400, _README),
     48.2, 69.7, 52.5, 43.0, 66.6, 46.4),
    ('vmamba_v0_b', '', 'v0det', 'vssmbase_mask_rcnn_swin_fpn_coco_epoch_12.pth', 95_627_632, (540, _README),
     48.6, 70.0, 53.1, 43.3, 67.1, 46.7),
    ('vmamba_v0_t', '_3x', 'v0det', 'vssmtiny_mask_rcnn_swin_fpn_coco_ms_3x_epoch_34.pth', 42_399_696, (286, _README),
     48.5, 70.0, 52.7, 43.2, 66.9, 46.4),
    ('vmamba_v0_s', '_3x', 'v0det', 'vssmsmall_mask_rcnn_swin_fpn_coco_ms_3x_epoch_34.pth', 63_923_664, (400, _README),
     49.7, 70.4, 54.2, 44.0, 67.6, 47.3),
)  # fmt: skip
# Models that differ from those with a config of their own in how they were trained: evaluated with these configs.
_SAME_MODEL = {
    'mask_rcnn_vmamba_b_bs8_coco': 'mask_rcnn_vmamba_b_coco',
    'mask_rcnn_vmamba_t_s2l5_3x_coco': 'mask_rcnn_vmamba_t_s2l5_coco',
    'mask_rcnn_vmamba_v0_t_3x_coco': 'mask_rcnn_vmamba_v0_t_coco',
    'mask_rcnn_vmamba_v0_s_3x_coco': 'mask_rcnn_vmamba_v0_s_coco',
}
_RECIPES = {'': '12 epochs', '_3x': '36 epochs', '_bs8': '12 epochs, batches of 8'}
_UPERNET = 'upernet_vssm_4xb4-160k_ade20k-512x512_'
_SEGMENTORS = (
    # variant, tag, file, parameters, (GFLOPs, source), mIoU, mIoU of six scales and mirror images
    ('vmamba_t', 'v2seg', f'{_UPERNET}tiny_s_iter_160000.pth', 61_902_572, (948.78, _COUNT), 47.9, 48.8),
    ('vmamba_t_s2l5', 'v2seg', f'{_UPERNET}tiny_iter_160000.pth', 62_359_340, (947.78, _COUNT), 48.3, 48.6),
    ('vmamba_s', 'v2seg', f'{_UPERNET}small_iter_144000.pth', 81_801_260, (1028.40, _COUNT), 50.6, 51.2),
    ('vmamba_b', 'v2seg', f'{_UPERNET}base_iter_160000.pth', 122_069_292, (1170.34, _COUNT), 51.0, 51.6),
    ('vmamba_v0_t', 'v0seg', 'vssmtiny_upernet_4xb4-160k_ade20k-512x512_iter_160000.pth', 54_546_956,
     (964, _README), 47.3, 48.3),
    ('vmamba_v0_s', 'v0seg', 'vssmsmall_upernet_4xb4-160k_ade20k-512x512_iter_160000.pth', 76_070_924,
     (1081, _README), 49.5, 50.5),
    ('vmamba_v0_b', 'v0seg', 'vssmbase_upernet_4xb4-160k_ade20k-512x512_iter_128000.pth', 109_765_548,
     (1226, _README), 50.0, 51.3),
)  # fmt: skip


def _file(name: str, tag: str) -> OfficialFile:
    # The tags themselves begin with a #.
    releases = f'github.com/{_REPOSITORY}/releases'
    return OfficialFile(name, f'{releases}/tag/%23{tag}', f'https://{releases}/download/%23{tag}/{name}')


_TITLES = {variant: title for variant, title, *_ in _CLASSIFIERS}
# The dense models of the first VMamba-B start from another file than the classifier that is reported.
_START_OF_V0_B = _file('vssmbase_dp05_ckpt_epoch_260.pth', 'v0cls')
_STARTS = {variant: name for variant, _, _, name, *_ in _CLASSIFIERS} | {'vmamba_v0_b': _START_OF_V0_B.name}


def _classifiers() -> list[Model]:
    models = []
    for variant, title, tag, name, parameters, top1, top5, gflops in _CLASSIFIERS:
        source = _README if top5 is None else _SCRIPT
        published = [Published('top-1', top1, source)]
        if top5 is not None:
            published.append(Published('top-5', top5, source))
        models.append(
            Model(
                name=f'{variant}_imagenet',
                title=title,
                variant=variant,
                family='VMamba',
                task='imagenet',
                method='classifier',
                config=f'configs/vmamba/{variant}_imagenet.py',
                parameters=parameters,
                long_name=f'{variant.replace("_", "-")}_in1k-224',
                published=tuple(published),
                flops=Flops(gflops, '224 x 224', _README),
                weights=_file(name, tag),
            )
        )
    return models


def _detectors() -> list[Model]:
    models = []
    for variant, extra, tag, file, parameters, (gflops, source), *numbers in _DETECTORS:
        name = f'mask_rcnn_{variant}{extra}_coco'
        metrics = ('box AP', 'box AP50', 'box AP75', 'mask AP', 'mask AP50', 'mask AP75')
        schedule = {'': '8xb2-1x', '_3x': '8xb2-ms-3x', '_bs8': '8xb1-1x'}[extra]
        models.append(
            Model(
                name=name,
                title=_TITLES[variant],
                variant=variant,
                family='VMamba',
                task='det',
                method='Mask R-CNN',
                config=f'configs/vmamba/{_SAME_MODEL.get(name, name)}.py',
                parameters=parameters,
                long_name=f'mask-rcnn_{variant.replace("_", "-")}_fpn_{schedule}_coco',
                published=tuple(Published(m, value, _README) for m, value in zip(metrics, numbers, strict=True)),
                flops=Flops(gflops, '800 x 1280', source),
                weights=_file(file, tag),
                start=_STARTS[variant],
                batch_size=8 if extra == '_bs8' else 16,
                recipe=_RECIPES[extra],
            )
        )
    return models


def _segmentors() -> list[Model]:
    return [
        Model(
            name=f'upernet_{variant}_ade20k',
            title=_TITLES[variant],
            variant=variant,
            family='VMamba',
            task='seg',
            method='UPerNet',
            config=f'configs/vmamba/upernet_{variant}_ade20k.py',
            parameters=parameters,
            long_name=f'upernet_{variant.replace("_", "-")}_8xb2-160k_ade20k-512x512',
            published=(Published('mIoU', miou, _README), Published('mIoU (ms+flip)', multi_scale, _README)),
            flops=Flops(gflops, '512 x 2048', source),
            weights=_file(file, tag),
            start=_STARTS[variant],
            batch_size=16,
        )
        for variant, tag, file, parameters, (gflops, source), miou, multi_scale in _SEGMENTORS
    ]


_MODELS = (*_classifiers(), *_detectors(), *_segmentors())
FAMILY = Family(
    name='VMamba',
    readme='configs/vmamba/README.md',
    models=_MODELS,
    files=(*(model.weights for model in _MODELS), _START_OF_V0_B),
    architecture=('Selective State Space Model', 'Cross Scan'),
    paper=('VMamba: Visual State Space Model', 'https://arxiv.org/abs/2401.10166'),
    code=f'https://github.com/{_REPOSITORY}',
    license='MIT License',
    backbone='VMamba',
    colours={'VMamba': '#8f2d56'},
)
