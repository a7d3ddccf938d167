"""VMamba on this machine: its scans against a composition with copies, and whole models against Swin-T.

    python benchmarks/vmamba.py [--quick] [--out work_dirs/benchmarks]

The compositions are compared with SS2D first; nothing is timed when their numbers differ. Peers:

- copies: the map copied along its four directions, the same scan kernel on the copies, results put back and added
- loop: the recurrence over such copies in PyTorch, one step after the other, as upstream's fallback
- Swin-T of mmdet, as backbone and in Mask R-CNN

Each measurement of a whole model runs in a process of its own.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from backbone import Cost, row
from torch import Tensor, nn

from mmvim.analysis.measure import in_child, machine, peak_memory, time_call, write_tables
from mmvim.engine.cpu import keep_freed_memory
from mmvim.models import VMamba
from mmvim.models.backbones.vmamba_mixer import SS2D
from mmvim.ops import scan, walks

ROOT = Path(__file__).resolve().parents[1]
SWIN = {
    '_delete_': True, 'type': 'mmdet.SwinTransformer', 'embed_dims': 96, 'depths': [2, 2, 6, 2],
    'num_heads': [3, 6, 12, 24], 'window_size': 7, 'out_indices': (0, 1, 2, 3), 'drop_path_rate': 0.2,
}  # fmt: skip


def cross_scan(x: Tensor, height: int, width: int) -> Tensor:
    """(B, L, C) to four copies (B, 4, L, C): rows, columns, and their reverses."""
    columns = x.unflatten(1, (height, width)).transpose(1, 2).flatten(1, 2)
    forward = torch.stack([x, columns], 1)
    return torch.cat([forward, forward.flip(2)], 1)


def cross_merge(y: Tensor, height: int, width: int) -> Tensor:
    """The adjoint of :func:`cross_scan`: (B, 4, L, D) to (B, L, D)."""
    y = y[:, :2] + y[:, 2:].flip(2)
    return y[:, 0] + y[:, 1].unflatten(1, (width, height)).transpose(1, 2).flatten(1, 2)


def _project(self: SS2D, u: Tensor) -> tuple[Tensor, ...]:
    """delta (B, 4, L, D), B and C (B, 4, L, N) of copies u (B, 4, L, D)."""
    projected = u @ self.x_proj_weight.transpose(-1, -2)
    low, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
    return low @ self.dt_projs_weight.transpose(-1, -2), B, C


def core_ours(self: SS2D, u: Tensor, grid: tuple[int, int]) -> Tensor:
    projected = F.linear(u, self.x_proj_weight.flatten(0, 1)).unflatten(-1, (4, -1)).transpose(1, 2)
    delta, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
    return scan(
        u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walks.cross(*grid),
        delta_bias=self.dt_projs_bias, dt_weight=self.dt_projs_weight,
    )  # fmt: skip


def core_copies(self: SS2D, u: Tensor, grid: tuple[int, int]) -> Tensor:
    u = cross_scan(u, *grid)
    delta, B, C = _project(self, u)
    y = scan(
        u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walks.rows(u.shape[2], 4), merge='none',
        delta_bias=self.dt_projs_bias,
    )  # fmt: skip
    return cross_merge(y, *grid)


def core_loop(self: SS2D, u: Tensor, grid: tuple[int, int]) -> Tensor:
    u = cross_scan(u, *grid)
    delta, B, C = _project(self, u)
    delta = F.softplus(delta + self.dt_projs_bias.unsqueeze(1))
    decay = torch.exp(delta.unsqueeze(-1) * -self.A_logs.exp().unsqueeze(1))
    driven = (delta * u).unsqueeze(-1) * B.unsqueeze(-2)
    h, ys = torch.zeros_like(driven[:, :, 0]), []
    for a, b, c in zip(decay.unbind(2), driven.unbind(2), C.unbind(2), strict=True):
        h = a * h + b
        ys.append((h @ c.unsqueeze(-1)).squeeze(-1))
    return cross_merge(torch.stack(ys, 2) + self.Ds.unsqueeze(1) * u, *grid)


def ss2d_forward(core: Callable, self: SS2D, x: Tensor) -> Tensor:
    """The ungated SS2D around one of the cores, for whole models."""
    grid = x.shape[1:3]
    u = self.act(self.conv2d(self.in_proj(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1).flatten(1, 2)
    return self.out_proj(self.out_norm(core(self, u, grid)).unflatten(1, grid))


def gate() -> None:
    """Stop unless the peers compute what SS2D computes."""
    torch.manual_seed(0)
    mixer, x = SS2D(32), torch.randn(2, 5, 7, 32)
    for core in (core_ours, core_copies, core_loop):
        error = (ss2d_forward(core, mixer, x) - mixer(x)).norm() / mixer(x).norm()
        if not error < 1e-5:
            raise SystemExit(f'{core.__name__} is wrong (relative difference {error:.1e}): nothing was timed')


def measure_core(core: Callable, train: bool, seconds: float) -> Cost:
    """One SS2D core at D=96 on 128 x 128, in this process."""
    keep_freed_memory()
    torch.manual_seed(0)
    mixer, u = SS2D(96), torch.randn(1, 128 * 128, 96, requires_grad=train)

    def call() -> None:
        with torch.set_grad_enabled(train):
            y = core(mixer, u, (128, 128))
        if train:
            torch.autograd.grad(y.sum(), [u, mixer.A_logs, mixer.dt_projs_weight, mixer.x_proj_weight])

    memory = peak_memory(call)
    timing = time_call(call, seconds, least=2)
    return Cost(timing.best, timing.median, memory)


def measure_backbone(name: str, seconds: float) -> Cost:
    """Inference of a backbone on one image of 512 x 512."""
    keep_freed_memory()
    torch.manual_seed(0)
    backbone = VMamba('tiny') if name == 'vmamba' else build_swin()
    backbone.eval()  # on its own: Swin's returns nothing
    image = torch.randn(1, 3, 512, 512)
    call = torch.inference_mode()(lambda: backbone(image))
    memory = peak_memory(call)
    timing = time_call(call, seconds)
    return Cost(timing.best, timing.median, memory)


def build_swin() -> nn.Module:
    from mmdet.models import SwinTransformer

    return SwinTransformer(**{key: value for key, value in SWIN.items() if key not in ('_delete_', 'type')})


def measure_training(name: str, seconds: float) -> Cost:
    """One iteration of Mask R-CNN on two images of 512 x 512: losses, gradients, AdamW step."""
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    keep_freed_memory()
    torch.manual_seed(0)
    init_default_scope('mmdet')
    cfg = Config.fromfile(ROOT / 'configs/vmamba/mask_rcnn_vmamba_t_coco.py')
    cfg.model.backbone.init_cfg = None
    if name == 'swin':
        cfg.merge_from_dict({'model': {'backbone': SWIN}})
    if name == 'copies':
        SS2D.forward = lambda self, x: ss2d_forward(core_copies, self, x)
    model = MODELS.build(cfg.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    inputs = demo_mm_inputs(2, [[3, 512, 512]] * 2, num_items=[5, 5], num_classes=80, with_mask=True)
    data = model.data_preprocessor(inputs, training=True)

    def call() -> None:
        losses = model(**data, mode='loss')
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    call()  # makes the optimizer's state, which is no memory of an iteration
    memory = peak_memory(call)
    timing = time_call(call, seconds)
    return Cost(timing.best, timing.median, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    parser.add_argument('--quick', action='store_true', help='less time per measurement')
    args = parser.parse_args()
    seconds = 1.0 if args.quick else 6.0
    about = machine()
    gate()
    rows: list[dict] = []

    def compare(what: str, peer: str, goal: str, ours: partial, other: partial) -> None:
        rows.append(row(what, in_child(ours), peer, in_child(other), goal))
        print(rows[-1], flush=True)

    core = 'SS2D core, 128 x 128, D=96, '
    for train, what, goal in ((False, 'forward', '2x'), (True, 'forward + backward', '1.7x')):
        mine = partial(measure_core, core_ours, train, seconds)
        compare(
            core + what, 'copies on the same kernel', goal, mine, partial(measure_core, core_copies, train, seconds)
        )
    mine = partial(measure_core, core_ours, False, seconds)
    compare(core + 'forward', 'PyTorch loop over copies', '40x', mine, partial(measure_core, core_loop, False, 1.0))
    backbone = partial(measure_backbone, 'vmamba', seconds)
    compare('VMamba-T, 512 x 512, inference', 'Swin-T', '1x, reach for 1.36x', backbone,
            partial(measure_backbone, 'swin', seconds))  # fmt: skip
    training = partial(measure_training, 'vmamba', seconds)
    what = 'Mask R-CNN iteration, 512 x 512, batch 2'
    compare(what, 'Swin-T', '1x', training, partial(measure_training, 'swin', seconds))
    compare(what, 'copies on the same kernel', '70 % of the memory', training,
            partial(measure_training, 'copies', seconds))  # fmt: skip
    write_tables(args.out, 'vmamba', 'VMamba against copies and against Swin-T', about, rows)


if __name__ == '__main__':
    main()
