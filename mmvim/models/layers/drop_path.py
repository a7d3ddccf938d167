"""Stochastic depth."""

from torch import Tensor, nn

from mmvim.errors import UserValueError


class DropPath(nn.Module):
    """Drop a residual branch per sample with probability ``rate`` in training, and scale the others by 1 / (1 - rate).

    Stochastic depth, https://arxiv.org/abs/1603.09382. The input has the batch first; all other axes are free.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise UserValueError(f'drop path rate: expected 0 <= rate < 1, got {rate}')
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0], *(1,) * (x.dim() - 1))).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3f}'


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Rates rising linearly from 0 at the first of ``depth`` blocks to ``rate`` at the last."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
