"""Whole backbones on a GPU: Vim against DeiT, VMamba against Swin, inference and training, speed and memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from common import Report
from timing import Call, Speed, eager, graphed
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmvim import models
from mmvim.analysis.deit import DeiT
from mmvim.analysis.measure import peak_memory
from mmvim.analysis.swin import Swin

AUTOCAST, WHOLE = 'bf16 autocast', 'all in bf16'
SDPA = {'flash': SDPBackend.FLASH_ATTENTION, 'cuDNN': SDPBackend.CUDNN_ATTENTION,
        'efficient': SDPBackend.EFFICIENT_ATTENTION}  # fmt: skip


class Setting(NamedTuple):
    """Images (batch, 3, *size), forward or with a backward pass."""

    batch: int
    size: tuple[int, int]
    train: bool = False

    def __str__(self) -> str:
        height, width = self.size
        return f'{"forward + backward" if self.train else "forward"}, {height} x {width}, B {self.batch}'


class Result(NamedTuple):
    """What was measured of one model in one precision."""

    eager: Speed
    graph: Speed | None
    memory: int

    @property
    def best(self) -> float:
        """Seconds, as a graph where there is one."""
        return (self.graph or self.eager).median


class Contest(NamedTuple):
    """Ours against peers at one setting: name -> what builds the model, and what it has to reach."""

    setting: Setting
    ours: dict[str, Callable[[], nn.Module]]
    peers: dict[str, Callable[[], nn.Module]]
    goal: str


def contests(quick: bool) -> Iterator[Contest]:
    """The rows of the table of goals that whole backbones can show."""
    def vim(arch: str, size: int) -> dict[str, Callable]:
        return {f'Vim-{arch}': lambda: models.Vim(arch, pretrain_img_size=size)}

    def deit(dims: int, size: int, naive: bool = True) -> dict[str, Callable]:
        found = {f'DeiT, {dims} channels, SDPA {name}': lambda: DeiT(dims, (size, size), True) for name in SDPA}
        if naive:
            found[f'DeiT, {dims} channels, naive'] = lambda: DeiT(dims, (size, size), False)
        return found

    def vmamba(arch: str) -> dict[str, Callable]:
        return {f'VMamba-{arch}': lambda: models.VMamba(arch)}

    if quick:
        yield Contest(Setting(1, (64, 64)), vim('tiny', 64), deit(192, 64), 'none: a small size')
        swin = {'Swin, 32 channels': lambda: Swin(32, (2, 2))}
        small = {'embed_dims': 32, 'depths': (1, 1)}
        ours = {'VMamba, 32 channels': lambda: models.VMamba(small, out_indices=(0, 1))}
        yield Contest(Setting(1, (64, 96), True), ours, swin, 'none: a small size')
        return
    swin_t, swin_b = {'Swin-T': Swin}, {'Swin-B': lambda: Swin(128, (2, 2, 18, 2))}
    against_deit = 'naive: 2.8x and 86.8 % less memory (the paper), reach for 4x; fastest SDPA: 0.8x, reach for 1x'
    for arch, dims in (('tiny', 192), ('small', 384)):
        yield Contest(Setting(8, (1248, 1248)), vim(arch, 1248), deit(dims, 1248), against_deit)
    yield Contest(Setting(128, (224, 224)), vmamba('tiny'), swin_t, '1.36x')
    yield Contest(Setting(128, (224, 224)), vmamba('base'), swin_b, '1.41x')
    for arch, dims in (('tiny', 192), ('small', 384)):
        goal = 'fastest SDPA: 1.2x, reach for 1.5x'
        yield Contest(Setting(8, (2048, 2048)), vim(arch, 2048), deit(dims, 2048), goal)
    goal = '1x, of the iteration of a whole detector; this is the backbone alone'
    yield Contest(Setting(2, (800, 1280), True), vmamba('tiny'), swin_t, goal)
    yield Contest(Setting(1, (800, 1280)), vmamba('tiny'), swin_t, 'none')
    yield Contest(Setting(1, (1248, 1248)), vim('small', 1248), deit(384, 1248), 'none')
    yield Contest(Setting(64, (224, 224)), vim('small', 224), deit(384, 224), 'none')
    yield Contest(Setting(8, (512, 512), True), vim('small', 512), deit(384, 512), 'none')


def attention(name: str) -> AbstractContextManager:
    """The backend that the name of a model asks for."""
    chosen = [backend for key, backend in SDPA.items() if name.endswith(f'SDPA {key}')]
    return sdpa_kernel(chosen) if chosen else nullcontext()


def measure(name: str, build: Callable[[], nn.Module], setting: Setting, precision: str, device: str) -> Result:
    """Speed and peak memory of one model; the memory is above that of its weights and the images."""
    torch.manual_seed(0)
    model = build().to(device).train(setting.train)
    images = [torch.randn(setting.batch, 3, *setting.size, device=device) for _ in range(2)]
    if precision == WHOLE:
        model = model.bfloat16()
        images = [image.bfloat16() for image in images]

    def call_of(image: torch.Tensor) -> Call:
        def call() -> Any:
            # No cache of weights in bf16: each is used once, and a graph must not keep them.
            lowered = torch.autocast(device, torch.bfloat16, enabled=precision == AUTOCAST, cache_enabled=False)
            with attention(name), lowered, torch.set_grad_enabled(setting.train):
                maps = model(image)
                if not setting.train:
                    return maps
                loss = sum(x.float().square().mean() for x in maps)
            return torch.autograd.grad(loss, parameters)

        return call

    parameters = list(model.parameters())
    calls = [call_of(image) for image in images]
    calls[0]()
    memory = peak_memory(calls[0], device)
    alone = None if setting.train else graphed(calls, device, limit=1.5)
    return Result(eager(calls, device, limit=1.5), alone, memory)


def bench_backbones(report: Report, device: str, quick: bool) -> None:
    """One row per model and precision, and one with the ratios for each contest."""
    for contest in contests(quick):
        found: dict[str, Result] = {}
        for name, build in {**contest.ours, **contest.peers}.items():
            for precision in (AUTOCAST, WHOLE):
                if report.left() < 25:
                    report.add('backbones', model=name, setting=str(contest.setting), note='left out: no time left')
                    continue
                row = {'model': name, 'setting': str(contest.setting), 'precision': precision}
                try:
                    result = measure(name, build, contest.setting, precision, device)
                except RuntimeError as error:  # out of memory, or a combination that torch or the model refuses
                    report.add('backbones', **row, note=str(error).splitlines()[0][:160])
                else:
                    found[f'{name}, {precision}'] = result
                    report.add('backbones', **row, **_columns(result, contest.setting))
                if device == 'cuda':
                    torch.cuda.empty_cache()
        _ratios(report, contest, found)


def _columns(result: Result, setting: Setting) -> dict[str, Any]:
    return {
        'graph, ms': '' if result.graph is None else round(1e3 * result.graph.median, 3),
        'eager, ms': round(1e3 * result.eager.median, 3),
        'spread': (result.graph or result.eager).spread,
        'images/s': round(setting.batch / result.best, 1),
        'peak memory, MB': round(result.memory / 1e6, 1),
    }


def _ratios(report: Report, contest: Contest, found: dict[str, Result]) -> None:
    """Ours at its fastest against each kind of peer at its fastest, whatever the precision."""
    ours = {key: result for key, result in found.items() if key.startswith(tuple(contest.ours))}
    kinds: dict[str, dict[str, Result]] = {}
    for key, result in found.items():
        if key not in ours:
            kind = next((kind for kind in ('SDPA', 'naive') if kind in key), 'peer')
            kinds.setdefault(kind, {})[key] = result
    if not ours:
        return
    best = min(ours, key=lambda key: ours[key].best)
    for kind, peers in kinds.items():
        peer = min(peers, key=lambda key: peers[key].best)
        mine, other = found[best], found[peer]
        report.add(
            'ratios',
            ours=best,
            setting=str(contest.setting),
            against=f'{"fastest SDPA" if kind == "SDPA" else kind}: {peer}',
            **{'times as fast': round(other.best / mine.best, 2)},
            **{'times as fast, eager': round(other.eager.median / mine.eager.median, 2)},
            **{'share of memory': f'{mine.memory / max(other.memory, 1):.1%}', 'goal': contest.goal},
        )
