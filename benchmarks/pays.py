"""Does a scan pay? Published mIoU and AP beside time and memory of the same models on this machine.

    python benchmarks/pays.py [--models GLOB ...] [--out work_dirs/benchmarks]

The accuracies are the zoo's, each with its source; time and memory are measured here, with random weights, which change
neither. Segmentors run whole on one image of 512 x 512. Of detectors the backbone and the pyramid run, on one image of
800 x 1280: how long the heads take depends on what they find. Each model runs in a process of its own.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmvim.analysis.measure import in_child, machine, peak_memory, time_call, write_tables
from mmvim.catalogue import MODELS, Model, select
from mmvim.engine.cpu import keep_freed_memory
from mmvim.zoo.check import build

ROOT = Path(__file__).resolve().parents[1]
SEGMENTORS = ['deit_t', 'vim_t', 'resnet50', 'deit_s', 'vim_s', 'swin_t', 'convnext_t', 'mambaout_t', 'vmamba_t']
SEGMENTORS += ['mambavision_t', 'mambaout_s', 'vmamba_s', 'mambavision_s']
SEGMENTORS += ['localvim_t', 'localvmamba_t', 'localvim_s', 'localvmamba_s']
SEGMENTORS += ['efficientvmamba_t', 'efficientvmamba_s', 'efficientvmamba_b', 'plainmamba_l1', 'plainmamba_l2']
DETECTORS = ['resnet50', 'swin_t', 'convnext_t', 'mambaout_t', 'vmamba_t', 'resnet101', 'mambaout_s', 'vmamba_s']
DETECTORS += ['localvmamba_t', 'localvmamba_s']
DETECTORS += ['efficientvmamba_t', 'efficientvmamba_s', 'efficientvmamba_b', 'plainmamba_l1', 'plainmamba_l2']
# The published numbers of Vim and LocalVim are those of upstream's form of the model.
NAMES = [f'upernet_{name}_ade20k{"_official" if name.startswith(("vim", "localvim")) else ""}' for name in SEGMENTORS]
NAMES += [f'mask_rcnn_{name}_coco' for name in DETECTORS]
NAMES += ['cascade_mask_rcnn_mambavision_t_3x_coco', 'cascade_mask_rcnn_mambavision_s_3x_coco']
SIZES = {'seg': (512, 512), 'det': (800, 1280)}


@torch.no_grad()
def measure(config: str, task: str) -> tuple[float, int, float]:
    """Seconds, bytes and million parameters of a model on one image."""
    keep_freed_memory()
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        module = build(cfg.model)
    image = torch.rand(1, 3, *SIZES[task])
    call = (lambda: module(image)) if task == 'seg' else (lambda: module.extract_feat(image))
    memory = peak_memory(call)
    return time_call(call).best, memory, sum(p.numel() for p in module.parameters()) / 1e6


def row(model: Model) -> dict[str, str]:
    """A line of the table; why there is none, where a package is missing."""
    about = {'model': f'{model.title}, {model.method}', 'image': ' x '.join(map(str, SIZES[model.task]))}
    try:
        seconds, memory, parameters = in_child(measure, str(ROOT / model.config), model.task)
    except ModuleNotFoundError as error:
        return {**about, 'time': str(error)}
    accuracy = [p for p in model.published if p.metric in ('mIoU', 'box AP', 'mask AP')]
    return {
        **about,
        'time': f'{seconds * 1e3:.0f} ms',
        'peak memory': f'{memory / 2**20:.0f} MB',
        'parameters': f'{parameters:.1f} M',
        'published': ', '.join(f'{p.metric} {p.value:.1f}' for p in accuracy) or '-',
        'published by': '; '.join(dict.fromkeys(p.source for p in accuracy)) or '-',
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', metavar='GLOB', default=NAMES)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'))
    args = parser.parse_args()
    rows = []
    for model in select([model for model in MODELS if model.task in SIZES], patterns=args.models):
        rows.append(row(model))
        print(*rows[-1].values(), sep=' | ', flush=True)
    write_tables(args.out, 'pays', 'Accuracy, time and memory', machine(), rows)


if __name__ == '__main__':
    main()
