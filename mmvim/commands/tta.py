"""What ``--tta`` of ``tools/test.py`` makes of a config."""

from copy import deepcopy

from mmengine.config import Config, ConfigDict

from mmvim.errors import UserValueError
from mmvim.preflight.data.places import as_list, inner_datasets

# As in mmdet's own test script, for configs that bring no `tta_model`.
DET_TTA_MODEL = {
    'type': 'DetTTAModel',
    'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100},
}


def use_tta(cfg: Config) -> None:
    """Put the model and the test pipeline of a config into their test-time-augmentation forms.

    Raises:
        ValueError: If the model predicts masks of instances, or the config lacks ``tta_pipeline``.
    """
    if _predicts_instance_masks(cfg):
        raise UserValueError('--tta: mmdet merges boxes only, and this model predicts masks as well; leave --tta out.')
    if cfg.get('default_scope') == 'mmdet':
        cfg.setdefault('tta_model', DET_TTA_MODEL)
        cfg.setdefault('tta_pipeline', _default_det_tta_pipeline(cfg))
    missing = [key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None]
    if missing:
        raise UserValueError(f'--tta needs {" and ".join(missing)} in the config, see configs/_base_/ for examples.')
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _predicts_instance_masks(cfg: Config) -> bool:
    metrics = [as_list(evaluator.get('metric')) for evaluator in as_list(cfg.get('test_evaluator'))]
    return any('segm' in names for names in metrics) or cfg.model.get('roi_head', {}).get('mask_head') is not None


def _default_det_tta_pipeline(cfg: Config) -> list[dict]:
    """The test pipeline with its last step, the packing, done for the image and for its mirror image."""
    *steps, pack = deepcopy(next(inner_datasets(cfg.test_dataloader.dataset)).pipeline)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
    flips = [{'type': 'RandomFlip', 'prob': probability} for probability in (1.0, 0.0)]
    return [*steps, {'type': 'TestTimeAug', 'transforms': [flips, [{**pack, 'meta_keys': keys}]]}]
