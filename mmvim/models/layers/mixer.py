"""Token mixers made of selective scans."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.ops import scan, walk_conv, walks


def init_scan_parameters(
    num_walks: int, channels: int, d_state: int, dt_rank: int, init: str = 'mamba'
) -> dict[str, nn.Parameter]:
    """Parameters of ``num_walks`` selective scans, none but the two projections under weight decay by default.

    Args:
        num_walks: K.
        channels: D.
        d_state: N, states per channel.
        dt_rank: R, rank of the step size.
        init: ``'mamba'`` (https://arxiv.org/abs/2312.00752): A is -1, ..., -N in every channel, and the bias makes
            softplus give steps spread log-uniformly over [0.001, 0.1]. VMamba (https://arxiv.org/abs/2401.10166) finds
            that it hardly matters: ``'random'`` draws log(-A), the projection of the steps and its bias from normal
            distributions, ``'zero'`` starts from A = -1 and small positive projections.

    Returns:
        ``x_proj_weight`` (K, R + 2N, D) whose rows are [dt | B | C], ``dt_projs_weight`` (K, D, R), ``dt_projs_bias``
        (K, D), ``A_logs`` (K, D, N), ``Ds`` (K, D).

    Raises:
        ValueError: If there is no such initialisation.
    """
    K, D, N, R = num_walks, channels, d_state, dt_rank
    if init == 'mamba':
        step = torch.exp(torch.empty(K, D).uniform_(math.log(1e-3), math.log(0.1))).clamp(min=1e-4)
        bias = step + torch.log(-torch.expm1(-step))  # the inverse of softplus
        weight = torch.empty(K, D, R).uniform_(-(R**-0.5), R**-0.5)
        A_logs = torch.arange(1.0, N + 1).log().repeat(K, D, 1)
    elif init == 'random':
        weight, bias, A_logs = 0.1 * torch.randn(K, D, R), 0.1 * torch.randn(K, D), torch.randn(K, D, N)
    elif init == 'zero':
        weight, bias, A_logs = 0.1 * torch.rand(K, D, R), 0.1 * torch.rand(K, D), torch.zeros(K, D, N)
    else:
        raise ValueError(f"initialisation {init!r}: expected 'mamba', 'random' or 'zero'")
    parameters = {
        'x_proj_weight': nn.Parameter(torch.empty(K, R + 2 * N, D).uniform_(-(D**-0.5), D**-0.5)),
        'dt_projs_weight': nn.Parameter(weight),
        'dt_projs_bias': nn.Parameter(bias),
        'A_logs': nn.Parameter(A_logs),
        'Ds': nn.Parameter(torch.ones(K, D)),
    }
    for name in ('dt_projs_bias', 'A_logs', 'Ds'):
        parameters[name]._no_weight_decay = True
    return parameters


class BidirectionalMixer(nn.Module):
    """Vim's mixer: a gated Mamba block whose scan runs over the sequence forward and backward.

    Each direction has its own convolution and scan parameters; the projections in and out and the gate are shared. The
    results of the directions are added, before the projection out. Both read the sequence in place: nothing is flipped.

    Args:
        dims: C, channels of a token.
        d_state: N, states per channel.
        d_conv: W, taps of the causal convolution.
        expand: d_inner / C.
        dt_rank: R, rank of the step size; C / 16 rounded up by default.
        average: Whether the sum of the two directions is halved.
    """

    def __init__(
        self,
        dims: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        average: bool = True,
    ) -> None:
        super().__init__()
        d_inner = expand * dims
        self.d_state = d_state
        self.dt_rank = dt_rank or math.ceil(dims / 16)
        self.scale = 0.5 if average else 1.0
        self.in_proj = nn.Linear(dims, 2 * d_inner, bias=False)
        self.conv1d_weight = nn.Parameter(torch.empty(2, d_inner, d_conv).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.conv1d_bias = nn.Parameter(torch.empty(2, d_inner).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.conv1d_bias._no_weight_decay = True
        for name, parameter in init_scan_parameters(2, d_inner, d_state, self.dt_rank).items():
            self.register_parameter(name, parameter)
        self.out_proj = nn.Linear(d_inner, dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) to (B, L, C)."""
        walk = walks.bidirectional(x.shape[1])
        into_scan, into_gate = self.in_proj.weight.chunk(2)
        # The gate comes last, so that it and the input of the convolution are not in memory at the same time.
        u = walk_conv(F.linear(x, into_scan), self.conv1d_weight, self.conv1d_bias, walks=walk)  # (B, 2, L, d_inner)
        projected = u @ self.x_proj_weight.transpose(-1, -2)
        delta, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], -1)
        y = scan(
            u, delta, -self.A_logs.exp(), B, C, self.Ds, walks=walk, z=F.linear(x, into_gate),
            delta_bias=self.dt_projs_bias, dt_weight=self.dt_projs_weight, scale=self.scale,
        )  # fmt: skip
        return self.out_proj(y)
