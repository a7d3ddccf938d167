"""``mamba_ssm.Mamba``: the mixer of Mamba (https://arxiv.org/abs/2312.00752) with mamba-ssm's arguments and names."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvim.errors import UserValueError
from mmvim.ops import causal_conv1d_fn, selective_scan_fn

from .steps import causal_conv1d_update, selective_state_update


@dataclass
class InferenceParams:
    """What generation carries from call to call, as ``mamba_ssm.utils.generation.InferenceParams``.

    Attributes:
        max_seqlen: Longest sequence.
        max_batch_size: Largest batch.
        seqlen_offset: How many tokens the states have seen.
        batch_size_offset: Where the batch begins in a larger one.
        key_value_memory_dict: (convolution's state, scan's state) of each layer.
        lengths_per_sample: Of a batch of sequences of several lengths.
    """

    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    batch_size_offset: int = 0
    key_value_memory_dict: dict = field(default_factory=dict)
    lengths_per_sample: Tensor | None = None

    def reset(self, max_seqlen: int, max_batch_size: int) -> None:
        """Begin anew; the states stay and are overwritten by the first call."""
        self.max_seqlen, self.max_batch_size, self.seqlen_offset = max_seqlen, max_batch_size, 0
        if self.lengths_per_sample is not None:
            self.lengths_per_sample.zero_()


class Mamba(nn.Module):
    """Mamba's mixer; state dicts of mamba-ssm's module fit. Every projection is called as a module.

    Args:
        d_model: Channels C of the input.
        d_state: States N of each channel.
        d_conv: Taps of the convolution.
        expand: Inner channels D are ``expand * d_model``.
        dt_rank: Rank of the step size; ``'auto'`` is d_model / 16, rounded up.
        dt_min: Smallest step size at the start, in front of softplus.
        dt_max: Largest one.
        dt_init: How the projection of the step size starts, ``'random'`` or ``'constant'``.
        dt_scale: Scale of that.
        dt_init_floor: No step size starts below this.
        conv_bias: Whether the convolution has a bias.
        bias: Whether the two outer projections have one.
        use_fast_path: Has no effect: there is one path.
        layer_idx: Name of the layer in ``InferenceParams``.
        device: Of the parameters.
        dtype: Of the parameters but A_log and D, which are fp32.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | str = 'auto',
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = 'random',
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if dt_init not in ('random', 'constant'):
            raise UserValueError(f"dt_init={dt_init!r}: expected 'random' or 'constant'")
        like = {'device': device, 'dtype': dtype}
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner = d_inner = int(expand * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == 'auto' else dt_rank
        self.use_fast_path = use_fast_path
        self.layer_idx = layer_idx
        self.activation = 'silu'
        self.act = nn.SiLU()

        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=bias, **like)
        self.conv1d = nn.Conv1d(
            d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1, bias=conv_bias, **like
        )  # fmt: skip
        self.x_proj = nn.Linear(d_inner, self.dt_rank + 2 * d_state, bias=False, **like)
        self.dt_proj = nn.Linear(self.dt_rank, d_inner, **like)
        states = torch.arange(1, d_state + 1, dtype=torch.float32, device=device)
        self.A_log = nn.Parameter(states.log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner, device=device))
        self.out_proj = nn.Linear(d_inner, d_model, bias=bias, **like)

        scale = self.dt_rank**-0.5 * dt_scale
        with torch.no_grad():
            if dt_init == 'random':
                self.dt_proj.weight.uniform_(-scale, scale)
            else:
                self.dt_proj.weight.fill_(scale)
            dt = torch.empty_like(self.dt_proj.bias).uniform_(math.log(dt_min), math.log(dt_max)).exp()
            dt = dt.clamp(min=dt_init_floor)
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt
        # Marks that training code looks for.
        self.dt_proj.bias._no_reinit = True
        self.A_log._no_weight_decay = self.D._no_weight_decay = True

    def forward(self, hidden_states: Tensor, inference_params: Any = None) -> Tensor:
        """(B, L, C) to (B, L, C). With ``inference_params`` states are kept, and later calls have one token each."""
        conv_state = ssm_state = None
        if inference_params is not None:
            conv_state, ssm_state = self._get_states_from_cache(inference_params, len(hidden_states))
            if inference_params.seqlen_offset > 0:
                return self.step(hidden_states, conv_state, ssm_state)[0]
        x, z = self.in_proj(hidden_states).transpose(1, 2).chunk(2, 1)
        if conv_state is not None:
            conv_state.copy_(F.pad(x, (self.d_conv - x.shape[-1], 0)))  # a negative pad cuts
        x = causal_conv1d_fn(x, self.conv1d.weight.squeeze(1), self.conv1d.bias, activation='silu')
        delta, B, C = self._projected(x.transpose(1, 2))
        y = selective_scan_fn(
            x, delta.transpose(1, 2), self._A(), B.transpose(1, 2), C.transpose(1, 2), self.D.float(), z,
            return_last_state=ssm_state is not None, delta_softplus=True,
        )  # fmt: skip
        if ssm_state is not None:
            y, state = y
            ssm_state.copy_(state)
        return self.out_proj(y.transpose(1, 2))

    def step(self, hidden_states: Tensor, conv_state: Tensor, ssm_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One token, (B, 1, C) to (B, 1, C), and the two states, which are overwritten."""
        if hidden_states.shape[1] != 1:
            raise UserValueError(
                f'hidden_states: expected one token a step, (B, 1, C), got {tuple(hidden_states.shape)}'
            )
        x, z = self.in_proj(hidden_states.squeeze(1)).chunk(2, -1)
        x = causal_conv1d_update(x, conv_state, self.conv1d.weight.squeeze(1), self.conv1d.bias, 'silu')
        delta, B, C = self._projected(x)
        y = selective_state_update(ssm_state, x, delta, self._A(), B, C, self.D, z, dt_softplus=True)
        return self.out_proj(y).unsqueeze(1), conv_state, ssm_state

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """States before the first token: (B, D, d_conv) and (B, D, N), zeros."""
        device = self.out_proj.weight.device
        conv_state = torch.zeros(
            batch_size, self.d_inner, self.d_conv, device=device, dtype=dtype or self.conv1d.weight.dtype
        )
        ssm_state = torch.zeros(
            batch_size, self.d_inner, self.d_state, device=device, dtype=dtype or self.dt_proj.weight.dtype
        )
        return conv_state, ssm_state

    def _A(self) -> Tensor:
        return -torch.exp(self.A_log.float())

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step size (..., D) with its bias, B and C (..., N) from x (..., D)."""
        low, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], -1)
        return self.dt_proj(low), B, C

    def _get_states_from_cache(self, inference_params: Any, batch_size: int, initialize_states: bool = False):
        """The layer's states in ``inference_params``, made there if they are not."""
        if self.layer_idx is None:
            raise UserValueError('layer_idx=None: generation needs a number for each layer, Mamba(..., layer_idx=0)')
        cache = inference_params.key_value_memory_dict
        if self.layer_idx not in cache:
            cache[self.layer_idx] = self.allocate_inference_cache(batch_size, inference_params.max_seqlen)
        if initialize_states:
            for state in cache[self.layer_idx]:
                state.zero_()
        return cache[self.layer_idx]
