"""What ``--out`` and ``--show-dir`` of ``tools/test.py`` add to a config."""

import os

from mmengine.config import Config

from mmvim.errors import UserValueError
from mmvim.preflight.data.places import as_list
from mmvim.preflight.data.unlabelled import writers


def dump_predictions(cfg: Config, out: str) -> None:
    """Add to the config that predictions are kept, in mmdet's (mmrotate's too) or mmseg's form.

    Args:
        cfg: Config of the run, changed in place.
        out: A ``.pkl`` file for detection, a folder for segmentation.

    Raises:
        ValueError: If the one is given where the other is needed, or the model is a classifier.
    """
    if cfg.get('default_scope') not in ('mmdet', 'mmrotate', 'mmseg'):
        raise UserValueError(f'--out {out}: predictions of classifiers are not kept; leave it out.')
    is_pickle = out.endswith(('.pkl', '.pickle'))
    if cfg.get('default_scope') == 'mmseg':
        if is_pickle:
            raise UserValueError(f'--out {out}: segmentation keeps one label map per image; give a folder.')
        for evaluator in writers(cfg):
            evaluator['output_dir'] = out
        return
    if not is_pickle:
        raise UserValueError(
            f'--out {out}: detection keeps its predictions in one file; give a name that ends in .pkl.'
        )
    dump = {'type': 'mmdet.DumpDetResults', 'out_file_path': out}
    cfg.test_evaluator = [*as_list(cfg.test_evaluator), dump]


def save_pictures(cfg: Config, folder: str) -> str:
    """Add to the config that every test image is drawn into a folder.

    Returns:
        Where exactly the pictures will be, which differs between mmdet and mmseg.

    Raises:
        ValueError: If the config lacks the hook that draws.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserValueError(
            '--show-dir needs the hook that draws: set default_hooks.visualization to '
            "dict(type='SegVisualizationHook') or dict(type='DetVisualizationHook') in the config."
        )
    hook.draw = True
    if cfg.get('default_scope') in ('mmdet', 'mmrotate'):
        # mmdet would put a relative folder below the log of this run.
        hook.test_out_dir = os.path.abspath(folder)
        return folder
    cfg.visualizer.save_dir = folder
    return os.path.join(folder, 'vis_data', 'vis_image')
