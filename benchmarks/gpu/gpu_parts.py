"""The parts of the check that only a GPU can run: graphs, streams, devices, sizes."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from common import on, scan_case
from compare import Row, compare, evaluate
from torch import Tensor

from mmvim.ops import Walks, scan, self_test, walk_conv, walks


def _vim_case(device: str, seed: int = 0) -> dict[str, Any]:
    return on(device, scan_case(walks.bidirectional(197), channels=192, d_state=16, rank=12, z=True, seed=seed,
                                dtype=torch.bfloat16))  # fmt: skip


def own_test(device: str, quick: bool) -> Iterator[Row]:
    """The self-test that users' processes run, and how long it takes: the first time, and once all is loaded."""
    for when in ('first', 'again'):
        torch.cuda.synchronize()
        start = time.perf_counter()
        problem = self_test.examine('mmvim', torch.device(device, torch.cuda.current_device()))
        torch.cuda.synchronize()
        took = 1e3 * (time.perf_counter() - start)
        ok = not problem and (when == 'first' or took <= 300)
        yield {'case': f'self-test, {when}', 'ok': ok, 'worst': problem, 'note': f'self-test, {when}: {took:.0f} ms'}


def graphs(device: str, quick: bool) -> Iterator[Row]:
    """Captured once, replayed with other inputs: the same bits as without a graph."""
    case, other = _vim_case(device), _vim_case(device, 1)
    x, weight = (torch.randn(2, 197, 192, device=device), torch.randn(2, 192, 4, device=device))
    for name, function, now, later in (
        ('scan', scan, case, other),
        ('walk_conv', walk_conv, *({'x': t, 'weight': weight, 'bias': None, 'walks': case['walks']} for t in (x, -x))),
    ):
        fixed = {key: t.clone() if isinstance(t, Tensor) else t for key, t in now.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                evaluate(function, fixed, ones=True)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        weights = torch.ones_like(function(**fixed))
        leaves = {k: t.requires_grad_() for k, t in fixed.items() if isinstance(t, Tensor) and t.is_floating_point()}
        with torch.cuda.graph(graph):
            y = function(**{**fixed, **leaves})
            grads = torch.autograd.grad(y, list(leaves.values()), weights)
        for what, inputs in (('first', now), ('other', later)):
            with torch.no_grad():
                for key, leaf in leaves.items():
                    leaf.copy_(inputs[key])
            graph.replay()
            want = evaluate(function, inputs, ones=True)
            got = {'y': y, **{f'd{key}': g for key, g in zip(leaves, grads, strict=True)}}
            wrong = [key for key in want if not torch.equal(got[key], want[key])]
            yield {'case': f'{name} in a graph, {what} inputs', 'ok': not wrong, 'worst': ', '.join(wrong)}


def streams(device: str, quick: bool) -> Iterator[Row]:
    """On another stream, behind work that is slow to finish."""
    want = evaluate(scan, _vim_case(device))
    stream = torch.cuda.Stream()
    case = _vim_case(device)
    late = {key: torch.zeros_like(t) if isinstance(t, Tensor) else t for key, t in case.items()}
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        for key, t in case.items():
            if isinstance(t, Tensor):
                late[key].copy_(t)
        got = evaluate(scan, late)
    stream.synchronize()
    wrong = [key for key in want if not torch.equal(got[key], want[key])]
    yield {'case': 'scan on a stream of its own', 'ok': not wrong, 'worst': ', '.join(wrong)}


def second_device(device: str, quick: bool) -> Iterator[Row]:
    """Tensors on a device that is not the current one."""
    if torch.cuda.device_count() < 2:
        yield {'case': 'a second device', 'ok': True, 'worst': '', 'note': 'not checked: there is one GPU'}
        return
    want, got = evaluate(scan, _vim_case('cuda:0')), evaluate(scan, _vim_case('cuda:1'))
    wrong = [key for key in want if not torch.equal(got[key].to('cuda:0'), want[key])]
    yield {'case': 'scan on cuda:1', 'ok': not wrong and torch.cuda.current_device() == 0, 'worst': ', '.join(wrong)}


def large(device: str, quick: bool) -> Iterator[Row]:
    """More than 2^31 elements, and a walk of more than 65535 tiles: its end is right, where all before is forgotten."""
    length, count, tail = 2**21 + 33, 1024, 4096
    free, needed = torch.cuda.mem_get_info()[0], 10 * 2 * length * count
    if free < needed:
        yield {'case': 'more than 2^31 elements', 'ok': True,
               'worst': '', 'note': f'not checked: needs {needed / 2**30:.0f} GiB'}  # fmt: skip
        return
    g = torch.Generator(device).manual_seed(0)
    normal = partial(torch.randn, generator=g, device=device, dtype=torch.bfloat16)
    for kind, states in ((walks.ROW, 1), (walks.ROW_REVERSED, 1)):
        u = torch.empty(1, length, count, device=device, dtype=torch.bfloat16)
        for part in u.split(2**18, 1):
            part.normal_(generator=g)
        case = {'u': u, 'delta': normal(1, length, 4), 'B': normal(1, length, states), 'C': normal(1, length, states),
                'A': torch.full((1, count, states), -1.0, device=device), 'delta_bias': None,
                'dt_weight': torch.rand(1, count, 4, device=device)}  # fmt: skip
        got = evaluate(scan, {**case, 'walks': Walks(1, length, (kind,))}, ones=True)
        ends = slice(length - 2 * tail, None) if kind == walks.ROW else slice(0, 2 * tail)
        part = {key: x[:, ends] if key in ('u', 'delta', 'B', 'C') else x for key, x in case.items()}
        want = evaluate(scan, {**part, 'walks': Walks(1, 2 * tail, (kind,)), 'backend': 'torch'}, ones=True)
        # Outputs remember what came before, gradients what comes after: each is exact at one end of the excerpt.
        late = slice(length - tail, None) if kind == walks.ROW else slice(0, tail)
        y = {'y': got['y'][:, late]}, {'y': want['y'][:, -tail:] if kind == walks.ROW else want['y'][:, :tail]}
        yield compare(f'kind {kind}, L {length}, D {count}, last tokens', *y, torch.bfloat16)
        early = slice(0, 2 * tail) if kind == walks.ROW else slice(length - 2 * tail, None)
        part = {key: x[:, early] if key in ('u', 'delta', 'B', 'C') else x for key, x in case.items()}
        want = evaluate(scan, {**part, 'walks': Walks(1, 2 * tail, (kind,)), 'backend': 'torch'}, ones=True)
        first = slice(0, tail) if kind == walks.ROW else slice(length - tail, None)
        part = slice(0, tail) if kind == walks.ROW else slice(tail, None)
        found = {key: got[key][:, first] for key in ('du', 'ddelta', 'dB', 'dC')}
        yield compare(f'kind {kind}, gradients of the first tokens', found,
                      {key: want[key][:, part] for key in found}, torch.bfloat16)  # fmt: skip


GPU_PARTS: dict[str, Callable[[str, bool], Iterator[Row]]] = {
    part.__name__: part for part in (own_test, graphs, streams, second_device, large)
}
