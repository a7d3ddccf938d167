"""The recurrence of a scan in forms that runtimes other than PyTorch have operators for.

All compute, for K walks of S steps, D channels and N states, ``h = exp(delta A) h + x B`` and ``y = C . h``, with
``x = delta u``; delta and x are (B, K, S, D), A (1|K, D, N), B and C (B, K, S, N), the result (B, K, S, D).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan as loop

#: Steps that are unrolled into one graph, at most; longer walks are cut into chunks.
LONGEST_CHUNK = 64
#: So short a walk is not worth cutting.
SHORTEST_CHUNK = 8

Recurrence = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def linear_attention(delta: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """One operator of ONNX Runtime, ``com.microsoft.LinearAttention`` by its gated rule, with a head for each channel.

    A head has values of one number and keys of N, which decay by exp(delta A); keys B and queries C are shared by all
    heads. Any number of steps.
    """
    batch, walks, steps, channels = x.shape
    d_state = A.shape[-1]
    decay = delta.unsqueeze(-1) * A.unsqueeze(1)
    flat = (batch * walks, steps)
    y, _ = torch.onnx.ops.symbolic_multi_out(
        'com.microsoft::LinearAttention',
        [
            C.reshape(*flat, d_state),
            B.reshape(*flat, d_state),
            x.reshape(*flat, channels),
            None,  # starts from zero
            decay.reshape(*flat, channels * d_state),
        ],
        {'update_rule': 'gated', 'scale': 1.0, 'q_num_heads': 1, 'kv_num_heads': channels},
        dtypes=(x.dtype, x.dtype),
        shapes=((*flat, channels), (flat[0], channels, d_state, 1)),
        version=1,
    )
    return y.view(batch, walks, steps, channels)


def steps_of_onnx(delta: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """ONNX's ``Scan``, one step an iteration: any number of steps, every runtime of ONNX."""
    start = x.new_zeros(*x.shape[:2], x.shape[-1], A.shape[-1])

    def step(h: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        delta, x, B, C = inputs
        h = (delta.unsqueeze(-1) * A).exp() * h + x.unsqueeze(-1) * B.unsqueeze(-2)
        return h, (h * C.unsqueeze(-2)).sum(-1)

    _, y = loop(step, start, tuple(tensor.movedim(2, 0) for tensor in (delta, x, B, C)))
    return y.movedim(0, 2)


def chunks(delta: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Products, sums and exponentials alone, which every runtime has; the number of steps is fixed.

    Walks are cut into chunks. Step t of all chunks is taken at once, from zero states; what a chunk owes to those
    before it is the same recurrence over the chunks' last states.
    """
    decay, inputs = (
        tensor.movedim(2, 0) for tensor in (delta.unsqueeze(-1) * A.unsqueeze(1), x.unsqueeze(-1) * B.unsqueeze(-2))
    )
    return (_states(decay, inputs).movedim(0, 2) * C.unsqueeze(-2)).sum(-1)


def _states(decay: Tensor, x: Tensor) -> Tensor:
    """All states of ``h = exp(decay) h + x`` along the first axis, of tensors (S, ...)."""
    steps = x.shape[0]
    length = min(LONGEST_CHUNK, max(SHORTEST_CHUNK, round(steps**0.5)))
    if steps <= length:
        states = [x[0]]
        for step in range(1, steps):
            states.append(decay[step].exp() * states[-1] + x[step])
        return torch.stack(states)
    count = -(-steps // length)
    # A step that is filled in changes nothing: its decay is exp(0).
    filled = (torch.cat([tensor, tensor.new_zeros(count * length - steps, *tensor.shape[1:])]) for tensor in (decay, x))
    decay, x = (tensor.unflatten(0, (count, length)).transpose(0, 1) for tensor in filled)  # (length, count, ...)
    states, decay = _states(decay, x), decay.cumsum(0)
    before = _states(decay[-1], states[-1])[:-1]
    before = torch.cat([before.new_zeros(1, *before.shape[1:]), before])
    return (states + decay.exp() * before).transpose(0, 1).flatten(0, 1)[:steps]


FORMS: dict[str, Recurrence] = {'linear_attention': linear_attention, 'scan': steps_of_onnx, 'plain': chunks}
