"""What ``tools/demo.py --smooth`` does to mIoU and mVC on the validation videos of a config (docs/fields/video.md).

python benchmarks/smooth.py configs/mine/vspw_miniature.py work_dirs/vspw_miniature/iter_400.pth --weights 1 0.5
"""

import argparse

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmvim.commands import run_tool
from mmvim.engine.quiet import quiet
from mmvim.inference.inferencer import build_inferencer
from mmvim.inference.smooth import Smoothing


def measure(cfg: Config, checkpoint: str, weights: list[float]) -> dict[float, dict[str, float]]:
    """The config's metrics for each weight of the newest frame; frames come in the order of the data set."""
    model = build_inferencer(cfg, checkpoint).model
    cfg.val_dataloader.batch_size = 1
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.val_dataloader)
        evaluators = {weight: Evaluator(cfg.val_evaluator) for weight in weights}
    video = None
    for batch in loader:
        folder = batch['data_samples'][0].img_path.rpartition('/')[0]
        if folder != video:
            video, averages = folder, {weight: Smoothing(weight) for weight in weights}
        with torch.no_grad():
            (found,) = model.val_step(batch)
        for weight, evaluator in evaluators.items():
            evaluator.dataset_meta = loader.dataset.metainfo
            evaluator.process([averages[weight](found.clone())], batch)
    return {weight: evaluator.evaluate(len(loader.dataset)) for weight, evaluator in evaluators.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--weights', nargs='+', type=float, default=[1, 0.75, 0.5, 0.25])
    args = parser.parse_args()
    with quiet():
        found = measure(Config.fromfile(args.config), args.checkpoint, args.weights)
    for weight, metrics in found.items():
        print(f'weight {weight:g}: {", ".join(f"{name} {value:.1f}" for name, value in metrics.items())}')


if __name__ == '__main__':
    run_tool(main)
