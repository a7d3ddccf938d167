"""What LocalMamba does with the directions of its scans: which block has which, and how much each of them counts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.ops import walks

#: The authors' choice where none was searched for.
UNSEARCHED = ('h', 'h_flip', 'w2', 'w2_flip')
Directions = tuple[tuple[str, ...], ...]


def listed_directions(text: str) -> Directions:
    """Directions written down: those of a block with spaces between, ``|`` between blocks."""
    return tuple(tuple(names.split()) for names in text.split('|'))


def resolve_directions(given: Sequence[str] | Sequence[Sequence[str]], depth: int) -> Directions:
    """The directions of each of ``depth`` blocks, names of :func:`mmvim.ops.walks.local`.

    Args:
        given: One list of names a block, or one list for all of them, such as ``['h', 'v_flip', 'w7']``.
        depth: Number of blocks.

    Raises:
        ValueError: If there are not as many lists as blocks, or a direction is unknown.
    """
    if not isinstance(given, str) and all(isinstance(name, str) for name in given):
        given = [given] * depth
    if isinstance(given, str) or len(given) != depth:
        got = repr(given) if isinstance(given, str) else f'those of {len(given)}'
        raise UserValueError(f'directions: expected a list of names for each of the {depth} blocks, got {got}')
    for names in given:
        walks.check_directions(names)
    return tuple(tuple(names) for names in given)


def read_columns_as_rows(y: Tensor, names: Sequence[str], grid: tuple[int, int]) -> Tensor:
    """What the authors' code makes of the results of walks along columns: theirs on the way back are those of rows.

    It turns a walk along the columns of H x W tokens back as if it were one along the columns of W x H. That is right
    on square maps, and puts the results of all others at other tokens.

    Args:
        y: (B, K, H * W, D), in token order.
        names: The K directions.
        grid: (H, W).
    """

    def turned(x: Tensor) -> Tensor:
        return x.unflatten(1, grid).transpose(1, 2).flatten(1, 2)

    pairs = zip(names, y.unbind(1), strict=True)
    return torch.stack([turned(turned(x)) if name in ('v', 'v_flip') else x for name, x in pairs], 1)


class DirectionAttention(nn.Module):
    """The sum of directions, each channel of each weighted by a gate (SCAttn of https://arxiv.org/abs/2403.09338).

    The gates see the mean over the map of the normed channels of their direction; what they weigh is not normed.

    Args:
        dims: D, channels.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.global_reduce = nn.Linear(dims, dims // 8)
        self.channel_select = nn.Linear(dims // 8, dims)

    def forward(self, y: Tensor) -> Tensor:
        """Results of K directions (B, K, L, D) to their sum (B, L, D)."""
        hidden = F.gelu(self.global_reduce(self.norm(y).mean(2)))
        gates = torch.sigmoid(self.channel_select(hidden)).unsqueeze(2)
        return (y * gates).sum(1)
