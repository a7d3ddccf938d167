"""What every implementation in PyTorch needs on its way along walks: tensors into walking order and back, tiles of
steps, and the dtype of states.
"""

from dataclasses import dataclass

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


@dataclass
class Order:
    """Gathers tensors into walking order and adds them back, for the steps [start, stop) of all K walks."""

    tokens: Tensor  # (K, S), -1 for none
    start: int
    stop: int

    def __post_init__(self):
        self.tokens = self.tokens[:, self.start : self.stop]
        self.here = (self.tokens >= 0).unsqueeze(-1)  # (K, T, 1)
        self.places = [(k, mask.squeeze(-1).nonzero().squeeze(-1)) for k, mask in enumerate(self.here)]

    def take(self, x: Tensor, in_steps: bool) -> Tensor:
        """(B, 1|K, S or L, C) to (B, K, T, C) in the state dtype; zero at steps without a token if in token order."""
        if in_steps:
            x = x[:, :, self.start : self.stop].expand(-1, len(self.tokens), -1, -1)
        else:
            walks = [x[:, k % x.shape[1], order.clamp(min=0)] for k, order in enumerate(self.tokens)]
            x = torch.stack(walks, 1).where(self.here, 0)
        return x.to(state_dtype(x.dtype))

    def add(self, out: Tensor, x: Tensor, in_steps: bool) -> None:
        """Add x (B, K, T, C) to out (B, 1|K, S or L, C): the adjoint of :meth:`take`."""
        for k, places in self.places:
            target = out[:, k % out.shape[1]]
            if in_steps:
                target[:, self.start : self.stop] += x[:, k]
            else:
                target.index_add_(1, self.tokens[k, places], x[:, k, places])


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
