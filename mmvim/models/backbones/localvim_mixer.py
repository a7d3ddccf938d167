"""LocalVim's token mixer."""

from functools import partial
from typing import Any

from torch import Tensor

from mmvim.errors import UserValueError
from mmvim.models.layers import DirectionAttention, read_columns_as_rows
from mmvim.ops import scan, walk_conv, walks

from .vim_mixer import BidirectionalMixer


class LocalMixer(BidirectionalMixer):
    """Vim's mixer along directions of LocalMamba (https://arxiv.org/abs/2403.09338), weighted before they are added.

    Convolution and scan see the places that windows are padded with: what the convolution makes of its bias there
    moves the state. So both run in walking order.

    Args:
        dims: C, channels of a token.
        directions: Names of K directions, see :func:`mmvim.ops.walks.local`.
        with_cls_token: Whether there is a class token in the middle of the tokens.
        legacy_reverse: Whether results along columns come back as in the authors' code, see
            :func:`~mmvim.models.layers.read_columns_as_rows`.
        options: Further arguments of :class:`BidirectionalMixer`.
    """

    def __init__(
        self,
        dims: int,
        directions: tuple[str, ...],
        with_cls_token: bool = False,
        legacy_reverse: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(dims, walks=directions, average=False, **options)
        if legacy_reverse and with_cls_token:
            raise UserValueError('legacy_reverse=True is for maps without a class token: set with_cls_token=False')
        self.walks = partial(walks.local, names=directions, class_token=with_cls_token)
        self.directions, self.legacy_reverse = directions, legacy_reverse
        self.attn = DirectionAttention(self.out_proj.in_features)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, L, C) of a map of ``grid`` rows and columns to (B, L, C)."""
        walk = self.walks(*grid)
        x, z = self.in_proj(x).chunk(2, -1)
        u = walk_conv(x, self.conv1d_weight, self.conv1d_bias, walks=walk, order='step')  # (B, K, S, d_inner)
        projected = u @ self.x_proj_weight.transpose(-1, -2)
        delta, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        y = scan(
            u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walk, z=z, u_order='step', param_order='step',
            delta_bias=self.dt_projs_bias, dt_weight=self.dt_projs_weight, merge='none',
        )  # fmt: skip
        if self.legacy_reverse:
            y = read_columns_as_rows(y, self.directions, grid)
        return self.out_proj(self.attn(y))
