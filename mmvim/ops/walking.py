"""What every implementation in PyTorch needs on its way along walks: tensors into walking order and back, tiles of
steps, and the dtype of states.
"""

import torch
from torch import Tensor

from .walks import COLUMN, COLUMN_REVERSED, ROW_REVERSED, Walks

TILE = 32  # steps between two stored states; the compiled kernels use the same


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """States, delta and all sums are fp32 whatever the inputs are, and fp64 for fp64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def num_stored_states(num_steps: int) -> int:
    """Tiles of a walk but the first, whose state is zero."""
    return (num_steps - 1) // TILE


class Order:
    """Gathers tensors into walking order and adds them back, for the steps [start, stop) of all K walks.

    The steps may be cut into ``chunks`` of one length, which a recurrence takes side by side: they then come step by
    step, first all chunks' first steps, so that what is computed at once lies together.

    Args:
        tokens: Int64 table (K, S), -1 for none.
        start: First step.
        stop: One behind the last.
        chunks: C, a divisor of ``stop - start`` = T * C.
    """

    def __init__(self, tokens: Tensor, start: int, stop: int, chunks: int = 1) -> None:
        self.start, self.stop, self.chunks = start, stop, chunks
        self.tokens = self._side_by_side(tokens[:, start:stop, None]).squeeze(-1)  # (K, T * C)
        self.here = (self.tokens >= 0).unsqueeze(-1)
        self.complete = bool(self.here.all())

    def _side_by_side(self, x: Tensor) -> Tensor:
        """(..., C * T, D) in walking order to (..., T * C, D)."""
        return x.unflatten(-2, (self.chunks, -1)).transpose(-3, -2).flatten(-3, -2)

    def take(self, x: Tensor, in_steps: bool) -> Tensor:
        """(B, 1|K, S or L, D) to (B, K, T * C, D) in the state dtype; in token order zero at steps without a token."""
        count = len(self.tokens)
        if in_steps:
            x = self._side_by_side(x[:, :, self.start : self.stop]).expand(-1, count, -1, -1)
        else:
            index = self.tokens if self.complete else self.tokens.clamp(min=0)
            if x.shape[1] == 1:
                x = x[:, 0].index_select(1, index.flatten()).unflatten(1, (count, -1))
            else:
                x = torch.stack([x[:, k].index_select(1, order) for k, order in enumerate(index)], 1)
            x = x if self.complete else x.where(self.here, 0)
        return x.to(state_dtype(x.dtype))

    def add(self, out: Tensor, x: Tensor, in_steps: bool) -> None:
        """Add x (B, K, T * C, D) to out (B, 1|K, S or L, D): the adjoint of :meth:`take`."""
        for k, order in enumerate(self.tokens):
            target, values = out[:, k % out.shape[1]], x[:, k]
            if in_steps:
                values = values.unflatten(1, (-1, self.chunks)).transpose(1, 2)
                target[:, self.start : self.stop].unflatten(1, (self.chunks, -1)).add_(values)
            elif self.complete:
                target.index_add_(1, order, values)
            else:
                places = self.here[k, :, 0].nonzero().squeeze(-1)
                target.index_add_(1, order[places], values[:, places])


def walked(x: Tensor, walks: Walks, in_steps: bool) -> Tensor:
    """(B, 1|K, S or L, C) to (B, K, S, C) in walking order; zero at a step without a token."""
    x = x.expand(-1, walks.num_walks, -1, -1)
    if in_steps:
        return x
    if walks.table is None:
        return torch.stack([_reordered(x[:, k], kind, walks) for k, kind in enumerate(walks.kinds)], 1)
    tokens = walks.tokens(x.device)
    taken = [x[:, k].index_select(1, order.clamp(min=0)) for k, order in enumerate(tokens)]
    return torch.stack(taken, 1).where((tokens >= 0).unsqueeze(-1), 0)


def _reordered(x: Tensor, kind: int, walks: Walks) -> Tensor:
    """Tokens (B, L, C) in the order of a kind of walk."""
    if kind in (COLUMN, COLUMN_REVERSED):
        x = x.unflatten(1, (walks.height, walks.width)).transpose(1, 2).flatten(1, 2)
    return x.flip(1) if kind in (ROW_REVERSED, COLUMN_REVERSED) else x


def unwalked(y: Tensor, walks: Walks) -> Tensor:
    """(B, K, S, D) back to tokens, (B, K, L, D); zero where a walk does not visit."""
    if walks.table is None:
        return torch.stack([_restored(y[:, k], kind, walks) for k, kind in enumerate(walks.kinds)], 1)
    # One spare place behind the last token takes what steps without a token would write.
    tokens = walks.tokens(y.device)
    index = tokens.where(tokens >= 0, walks.num_tokens)[None, :, :, None].expand_as(y)
    return y.new_zeros(*y.shape[:2], walks.num_tokens + 1, y.shape[-1]).scatter(2, index, y)[:, :, :-1]


def _restored(x: Tensor, kind: int, walks: Walks) -> Tensor:
    """Steps (B, L, C) of a kind of walk in the order of tokens."""
    x = x.flip(1) if kind in (ROW_REVERSED, COLUMN_REVERSED) else x
    if kind in (COLUMN, COLUMN_REVERSED):
        x = x.unflatten(1, (walks.width, walks.height)).transpose(1, 2).flatten(1, 2)
    return x
