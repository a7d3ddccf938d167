"""Random scans, extreme values among them, against a loop that shares nothing with the implementations.

A result has to be that of the loop in float64 wherever rounding cannot decide it: where the loop in float32, and in
both precisions from inputs that are a rounding error away, comes to the same infinity, to NaN, or near the same number.
"""

import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.ops import Walks, scan, walks

EXTREMES = (0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, 1e10, -1e10, 1e20, -1e20, 1e30, -1e30, 1e37, -1e37)
BEYOND = (float('inf'), float('-inf'), float('nan'))
AXES = {'u': 'u', 'delta': 'param', 'B': 'param', 'C': 'param'}
# By the dtype of a case: relative change of inputs that is no more than rounding, how much of its effect is allowed,
# and the relative error allowed besides. With bf16 the projection rounds its weight, and functions are less exact.
NEARBY = {torch.float32: (3e-7, 100.0, 2e-5), torch.bfloat16: (2e-3, 5.0, 1e-2)}
OVERFLOW = 1e36  # from here on a product within float32 may overflow


def make_walks(rng: random.Random, length: int) -> tuple[Walks, list[list[int]]]:
    """Walks, and the token of every step as a loop finds it."""
    height = rng.choice([1, 2, 3, 5])
    width = max(1, length // height)
    tokens = range(height * width)
    kind = rng.choice(['kinds', 'kinds', 'table', 'named'])
    if kind == 'kinds':
        kinds = tuple(rng.randrange(4) for _ in range(rng.choice([1, 2, 4])))
        down = sorted(tokens, key=lambda t: (t % width, t // width))
        orders = [(down if k % 2 else list(tokens))[:: -1 if k > 1 else 1] for k in kinds]
        return Walks(height, width, kinds), orders
    if kind == 'named':
        made = rng.choice([walks.snake, walks.strided])(height, width)
        return made, made.table.tolist()
    steps = rng.randint(1, len(tokens) + 3)
    orders = []
    for _ in range(rng.choice([1, 3])):
        visited = rng.sample(tokens, min(rng.randint(0, len(tokens)), steps))
        order = visited + [-1] * (steps - len(visited))
        rng.shuffle(order)
        orders.append(order)
    return walks.from_table(orders, height, width), orders


def make_case(seed: int) -> tuple[dict[str, Any], list[list[int]]]:
    """Arguments of a scan, all a function of ``seed``."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    length = rng.choice([1, 2, 3, 5, 5, 7, 9, 12, 33, 40]) if seed % 200 else 600
    walk, orders = make_walks(rng, length)
    K, L, S = walk.num_walks, walk.num_tokens, walk.num_steps
    batch = 1 if length == 600 else rng.choice([1, 2])
    channels, d_state = rng.choice([1, 3, 7, 17]), rng.choice([1, 2, 3, 4, 5, 8, 16, 18])
    rank = rng.choice([None, None, 1, 3])
    dtype = torch.bfloat16 if rng.random() < 0.15 else torch.float32
    orders_of = {name: rng.choice(['token', 'token', 'step']) for name in ('u', 'param')}
    own = rng.choice([1, K])

    def normal(*shape: int, scale: float = 1.0, to: torch.dtype = torch.float32) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(to)

    def rows(name: str, last: int, scale: float = 1.0) -> Tensor:
        axis = rng.choice([(), (K,)])
        return normal(batch, *axis, S if orders_of[AXES[name]] == 'step' else L, last, scale=scale, to=dtype)

    softplus = rng.random() < 0.8
    case = {
        'u': rows('u', channels),
        'delta': rows('delta', rank or channels, 0.5),
        'A': -torch.rand(own, channels, d_state, generator=generator) * 3,
        'B': rows('B', d_state),
        'C': rows('C', d_state),
        'D': normal(own, channels) if rng.random() < 0.5 else None,
        'z': normal(batch, L, channels, to=dtype) if rng.random() < 0.5 else None,
        'delta_bias': normal(own, channels) if rng.random() < 0.5 else None,
        'dt_weight': normal(own, channels, rank) if rank else None,
    }
    if not softplus:  # growing states overflow soon
        case['delta'] = case['delta'].abs()
        if rank:
            case['dt_weight'] = case['dt_weight'].abs()
        if case['delta_bias'] is not None:
            case['delta_bias'] = case['delta_bias'].abs()
    for name in rng.choices(list(case), [1, 2, 4, 1, 1, 1, 1, 1, 1], k=rng.choice([0, 1, 1, 2, 3])):
        if case[name] is not None:
            value = rng.choice(EXTREMES + (BEYOND if rng.random() < 0.3 else ()))
            if name == 'A' and rng.random() < 0.8:
                value = -abs(value)
            flat = case[name].view(-1)
            flat[rng.randrange(flat.numel())] = value
    # A token without a step is 0 of every walk; 0 times an infinite gate is a question of its own.
    merge = 'sum' if case['z'] is not None and not case['z'].isfinite().all() else rng.choice(['sum', 'none'])
    return {
        **case,
        'walks': walk,
        'delta_softplus': softplus,
        'u_order': orders_of['u'],
        'param_order': orders_of['param'],
        'merge': merge,
        'scale': rng.choice([1.0, 0.5, -2.0]),
    }, orders


def loop(case: dict[str, Any], orders: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Outputs and last states of tensors that have an axis of variants in front."""
    index = torch.tensor(orders)  # -1 is the row of zeros that is put behind the last
    K, S = index.shape

    def walked(name: str, order: str) -> Tensor:  # (V, B, K, S, ...)
        x = case[name]
        x = x if x.dim() == 5 else x.unsqueeze(2)
        x = x.expand(-1, -1, K, -1, -1)
        if order == 'step':
            return x
        x = torch.cat([x, torch.zeros_like(x[:, :, :, :1])], 3)
        return torch.stack([x[:, :, k, index[k]] for k in range(K)], 2)

    u, delta = walked('u', case['u_order']), walked('delta', case['param_order'])
    B, C = (walked(name, case['param_order']) for name in ('B', 'C'))
    if case['dt_weight'] is not None:
        weight = case['dt_weight'].unsqueeze(1).unsqueeze(3)  # (V, 1, K, 1, D, R)
        delta = (weight * delta.unsqueeze(-2)).sum(-1)
    if case['delta_bias'] is not None:
        delta = delta + case['delta_bias'].unsqueeze(1).unsqueeze(3)
    if case['delta_softplus']:
        delta = F.softplus(delta)
    A = case['A'].unsqueeze(1)
    h, ys = torch.zeros_like(u[:, :, :, 0].unsqueeze(-1) * A).detach().nan_to_num(0.0, 0.0, 0.0), []
    for s in range(S):
        d, x = delta[:, :, :, s].unsqueeze(-1), u[:, :, :, s].unsqueeze(-1)
        if A.dtype == torch.float64:
            decay = torch.exp(d * A)
        else:
            # One variant is as processors may be: what is hardly more than 0 is 0, products overflow sooner.
            other = torch.exp(d[1] * 0.25 * (A[1] * 4))
            decay = torch.stack([torch.exp(d[0] * A[0]), torch.where(other < 1e-37, other * 0, other)])
        h = decay * h + d * x * B[:, :, :, s].unsqueeze(-2)
        ys.append((C[:, :, :, s].unsqueeze(-2) * h).sum(-1))
    y = torch.stack(ys, 3)
    if case['D'] is not None:
        y = y + case['D'].unsqueeze(1).unsqueeze(3) * u
    L = case['walks'].num_tokens
    y = torch.cat([y, torch.zeros_like(y[:, :, :, :1]).detach().nan_to_num(0.0, 0.0, 0.0)], 3)
    back = torch.full((K, L), S)
    for k, order in enumerate(orders):
        for s, token in enumerate(order):
            if token >= 0:
                back[k, token] = s
    y = torch.stack([y[:, :, k, back[k]] for k in range(K)], 2)
    y = (y.sum(2) if case['merge'] == 'sum' else y) * case['scale']
    if case['z'] is not None:
        z = case['z'] if case['merge'] == 'sum' else case['z'].unsqueeze(2)
        y = y * F.silu(z)
    return y, h


def tensors_of(case: dict[str, Any]) -> dict[str, Tensor]:
    return {name: x for name, x in case.items() if isinstance(x, Tensor)}


def variants(case: dict[str, Any], orders: list[list[int]], grad: Tensor, seed: int) -> list[dict[str, Tensor]]:
    """Results of the loop and all gradients: in float64 and float32, each from the inputs and nearby ones."""
    generator = torch.Generator().manual_seed(seed)
    change = NEARBY[case['u'].dtype][0]
    outcomes = []
    for dtype in (torch.float64, torch.float32):
        leaves = {}
        for name, x in tensors_of(case).items():
            exact = x.double()
            nearby = exact * (1 + change * torch.randn(x.shape, generator=generator, dtype=torch.float64))
            leaves[name] = torch.stack([exact, nearby]).to(dtype).requires_grad_()
        y, h = loop({**case, **leaves}, orders)
        grads = torch.autograd.grad(y, list(leaves.values()), grad.to(dtype).expand_as(y))
        got = {'y': y.detach(), 'last_state': h.detach(), **{f'd{n}': g for n, g in zip(leaves, grads, strict=True)}}
        for v in range(2):
            outcomes.append({name: x[v].double() for name, x in got.items()})
    return outcomes


def mistakes(seed: int, backend: str) -> list[str]:
    """What a backend gets wrong in case ``seed``: names of results, how many values, and the first of them."""
    case, orders = make_case(seed)
    leaves = {name: x.clone().requires_grad_() for name, x in tensors_of(case).items()}
    y, state = scan(**{**case, **leaves}, return_last_state=True, backend=backend)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(y.dtype)
    y.backward(grad)
    got = {'y': y.detach(), 'last_state': state, **{f'd{name}': x.grad for name, x in leaves.items()}}
    wrong = []
    _, share, rounding = NEARBY[case['u'].dtype]
    outcomes = variants(case, orders, grad, seed)
    for name, x in got.items():
        want, others = outcomes[0][name], torch.stack([outcome[name] for outcome in outcomes[1:]])
        x = x.double()
        both_nan = want.isnan() & others.isnan().all(0)
        same_infinity = want.isinf() & (others == want).all(0)
        finite = (want.abs() < OVERFLOW) & (others.abs() < OVERFLOW).all(0)
        spread = (others - want).abs().amax(0)
        scale = want[finite].abs().median() if finite.any() else 0.0
        allowed = rounding * (want.abs() + scale) + share * spread + 1e-35
        fine = torch.where(finite, (x - want).abs() <= allowed, True)
        bad = (both_nan & ~x.isnan()) | (same_infinity & (x != want)) | ~fine
        if bad.any():
            place = tuple(int(i) for i in bad.nonzero()[0])
            wrong.append(f'{name}: {int(bad.sum())} of {bad.numel()}, at {place} {x[place]} where {want[place]} is due')
    return wrong
