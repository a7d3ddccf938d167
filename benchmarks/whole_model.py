"""Whole segmentors and detectors on this machine: --amp against fp32, VMamba against Swin, and what is not the network.

    python benchmarks/whole_model.py [segmentors] [detector] [training] [--rounds 4] [--out work_dirs/benchmarks]

- segmentors: UPerNet on one image of 512 x 512 to logits, VMamba-T and Swin-T, in fp32 and with --amp
- detector: Mask R-CNN, VMamba-T, one image of 800 x 1280 to boxes and masks, in fp32 and with --amp, part by part
- training: one iteration of it on one image of 800 x 1280: losses, gradients, AdamW step, part by part

All of a kind take turns in one process; the best of all rounds counts. The weights are random, so what the detector's
heads give is drawn in the place of what they compute: 1000 regions and 100 objects, as many as there can be.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmvim.analysis.measure import machine, write_tables
from mmvim.engine.amp_inference import amp_dtype, use_amp
from mmvim.engine.cpu import keep_freed_memory
from mmvim.models.build import build_untrained

ROOT = Path(__file__).resolve().parents[1]
SIZE = (800, 1280)
PARTS = {
    'backbone': 'backbone.forward', 'pyramid': 'neck.forward', 'RPN': 'rpn_head.forward',
    'proposals and NMS': 'rpn_head.predict_by_feat', 'RPN, losses': 'rpn_head.loss_by_feat',
    'regions of boxes': 'roi_head.bbox_roi_extractor.forward', 'box head': 'roi_head.bbox_head.forward',
    'boxes and NMS': 'roi_head.bbox_head.predict_by_feat', 'assigning to objects': 'roi_head.bbox_assigner.assign',
    'regions of masks': 'roi_head.mask_roi_extractor.forward', 'mask head': 'roi_head.mask_head.forward',
    'pasting of masks': 'roi_head.mask_head.predict_by_feat', 'masks, targets': 'roi_head.mask_head.get_targets',
}  # fmt: skip


def best_of_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each call, the best of so many rounds of all, after one to warm up."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(1 + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def with_amp(model: nn.Module) -> nn.Module:
    """A copy as --amp makes it."""
    model = deepcopy(model)
    use_amp(model, amp_dtype(Config(), 'cpu'))
    return model


def load(config: str) -> nn.Module:
    """An untrained model of a config."""
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return build_untrained(cfg.model)


@torch.inference_mode()
def segmentors(rounds: int) -> list[dict]:
    """UPerNet with VMamba-T and with Swin-T."""
    image = torch.rand(1, 3, 512, 512)
    exact = {
        'VMamba-T': load('vmamba/upernet_vmamba_t_ade20k').eval(),
        'Swin-T': load('baselines/upernet_swin_t_ade20k').eval(),
    }
    models = {f'{name}, fp32': model for name, model in exact.items()}
    models |= {f'{name}, --amp': with_amp(model) for name, model in exact.items()}
    # A module is called with its own image, not with that of the last turn of this loop.
    found = best_of_turns({name: lambda model=model: model(image) for name, model in models.items()}, rounds)
    backbones = {name: lambda model=model: model.extract_feat(image) for name, model in models.items()}
    alone = best_of_turns(backbones, rounds)
    ours = found['VMamba-T, --amp']
    goals = {'VMamba-T, fp32': '3.2x', 'Swin-T, --amp': '1.1x'}
    return [
        {
            'UPerNet, 512 x 512': name,
            'whole, s': f'{seconds:.3f}',
            'backbone, s': f'{alone[name]:.3f}',
            'VMamba-T, --amp is faster by': f'{seconds / ours:.2f}x',
            'goal': goals.get(name, ''),
        }
        for name, seconds in found.items()
    ]


def watch(model: nn.Module) -> dict[str, float]:
    """Have a detector add up the seconds of its parts in what is returned."""
    spent: dict[str, float] = defaultdict(float)

    def timed(function: Callable, part: str) -> Callable:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start

        return call

    for part, path in PARTS.items():
        *where, name = path.split('.')
        owner = model
        for step in where:
            owner = getattr(owner, step)
        setattr(owner, name, timed(getattr(owner, name), part))
    return spent


def draw_outputs(model: nn.Module) -> None:
    """Have the last layers of the heads give noise: many regions of good score, and many objects."""

    def noise(scale: float) -> Callable:
        def hook(layer: nn.Module, args: tuple, out: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(0)
            return torch.randn(out.shape, generator=generator).mul_(scale).to(out)

        return hook

    head = model.roi_head.bbox_head
    for layer, scale in (
        (model.rpn_head.rpn_cls, 2),
        (model.rpn_head.rpn_reg, 0.3),
        (head.fc_cls, 3),
        (head.fc_reg, 0.3),
    ):
        layer.register_forward_hook(noise(scale))


def detector(rounds: int) -> list[dict]:
    """Inference of Mask R-CNN."""
    from mmdet.structures import DetDataSample

    exact = load('vmamba/mask_rcnn_vmamba_t_coco').eval()
    draw_outputs(exact)
    image = torch.randn(1, 3, *SIZE)
    meta = {'img_shape': SIZE, 'ori_shape': (480, 768), 'scale_factor': (5 / 3, 5 / 3), 'batch_input_shape': SIZE}
    rows = []
    for name, model in {'fp32': exact, '--amp': with_amp(exact)}.items():
        spent, best = watch(model), (float('inf'), {}, 0)
        for _ in range(1 + rounds):
            spent.clear()
            start = time.perf_counter()
            with torch.inference_mode():
                found = model(image, [DetDataSample(metainfo=meta)], mode='predict')[0].pred_instances
            best = min(best, (time.perf_counter() - start, dict(spent), len(found)), key=lambda entry: entry[0])
        rows.append(part_row(f'Mask R-CNN, {SIZE[0]} x {SIZE[1]}, {name}, {best[2]} objects', *best[:2]))
    return rows


def training(rounds: int) -> list[dict]:
    """An iteration of training Mask R-CNN."""
    from mmdet.testing import demo_mm_inputs

    model = load('vmamba/mask_rcnn_vmamba_t_coco').train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    data = demo_mm_inputs(1, [[3, *SIZE]], num_items=[7], num_classes=80, with_mask=True)
    data = model.data_preprocessor(data, training=True)
    spent, best = watch(model), (float('inf'), {})
    for _ in range(1 + rounds):
        spent.clear()
        start = time.perf_counter()
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        forward = time.perf_counter()
        optimizer.zero_grad()
        loss.backward()
        backward = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        parts = {**spent, 'backward pass': backward - forward, 'optimizer': end - backward}
        best = min(best, (end - start, parts), key=lambda entry: entry[0])
    return [part_row(f'Mask R-CNN, iteration on {SIZE[0]} x {SIZE[1]}, fp32', *best)]


def part_row(what: str, seconds: float, parts: dict[str, float]) -> dict:
    """A line of milliseconds; the rest is what no part has."""
    rest = seconds - sum(parts.values())
    return {
        'what': what,
        **{name: round(1e3 * value) for name, value in {'all': seconds, **parts, 'rest': rest}.items()},
    }


def main() -> None:
    kinds = {'segmentors': segmentors, 'detector': detector, 'training': training}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('kinds', nargs='*', metavar='KIND', help=', '.join(kinds))
    parser.add_argument('--rounds', type=int, default=4, help='the best of them counts')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the tables')
    args = parser.parse_args()
    if wrong := set(args.kinds) - set(kinds):
        parser.error(f'there is no {", ".join(sorted(wrong))}: choose from {", ".join(kinds)}')
    keep_freed_memory()
    about = machine()
    for kind in args.kinds or kinds:
        write_tables(args.out, f'whole_model_{kind}', 'Whole models', about, kinds[kind](args.rounds))


if __name__ == '__main__':
    main()
