"""Parameters of selective scans, one set a walk."""

import math

import torch
from torch import nn

from mmvim.errors import UserValueError


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
        raise UserValueError(f"initialisation {init!r}: expected 'mamba', 'random' or 'zero'")
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
