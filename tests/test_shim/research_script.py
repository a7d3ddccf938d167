"""A training step as research code writes it: knows mamba-ssm, VMamba's kernels and causal-conv1d, nothing of mmvim.

Run by test_scripts.py as ``research_script.py --out FILE``; FILE gets all results.
"""

import argparse
import sys

import torch
from torch import nn

try:
    import selective_scan_cuda
    import selective_scan_cuda_core
    import selective_scan_cuda_oflex
except Exception as error:
    print('kernels are missing:', error)
from mamba_ssm import Mamba2
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

try:
    from causal_conv1d import causal_conv1d_fn
except ImportError:
    causal_conv1d_fn = None
try:
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
except ImportError as error:
    print(error)
    mamba_chunk_scan_combined = None


class Oflex(torch.autograd.Function):
    """As VMamba calls its own kernel: the result is fp32 whatever the inputs are."""

    @staticmethod
    @torch.amp.custom_fwd(device_type='cuda')
    def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
        ctx.delta_softplus = delta_softplus
        out, x, *rest = selective_scan_cuda_oflex.fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, 1, True)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type='cuda')
    def backward(ctx, dout, *args):
        u, delta, A, B, C, D, delta_bias, x = ctx.saved_tensors
        grads = selective_scan_cuda_oflex.bwd(u, delta, A, B, C, D, delta_bias, dout, x, ctx.delta_softplus, 1)
        return (*grads, None)


class Core(torch.autograd.Function):
    """As ChangeMamba calls the first kernel of VMamba."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
        ctx.delta_softplus = delta_softplus
        out, x, *rest = selective_scan_cuda_core.fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, 1)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    def backward(ctx, dout, *args):
        u, delta, A, B, C, D, delta_bias, x = ctx.saved_tensors
        du, ddelta, dA, dB, dC, dD, ddelta_bias, *rest = selective_scan_cuda_core.bwd(
            u, delta, A, B, C, D, delta_bias, dout, x, ctx.delta_softplus, 1
        )
        return du, ddelta, dA, dB, dC, dD, ddelta_bias, None


class Mamba(torch.autograd.Function):
    """As VMamba and Vim call the kernel of mamba-ssm."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
        ctx.delta_softplus = delta_softplus
        out, x, *rest = selective_scan_cuda.fwd(u, delta, A, B, C, D, None, delta_bias, delta_softplus)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    def backward(ctx, dout, *args):
        u, delta, A, B, C, D, delta_bias, x = ctx.saved_tensors
        du, ddelta, dA, dB, dC, dD, ddelta_bias, *rest = selective_scan_cuda.bwd(
            u, delta, A, B, C, D, None, delta_bias, dout, x, None, None, ctx.delta_softplus, False
        )
        return du, ddelta, dA, dB, dC, dD, ddelta_bias, None


class CrossScanBlock(nn.Module):
    """Four directions as groups of one scan over copies of the map."""

    def __init__(self, scan):
        super().__init__()
        self.scan = scan
        self.conv = nn.Parameter(torch.randn(6, 4) / 2)
        self.x_proj = nn.Parameter(torch.randn(4, 2 + 2 * 3, 6) / 3)
        self.dt = nn.Parameter(torch.randn(4, 6, 2) / 2)
        self.dt_bias = nn.Parameter(torch.randn(24) - 2)
        self.A_log = nn.Parameter(torch.rand(24, 3))
        self.D = nn.Parameter(torch.ones(24))

    def forward(self, x):
        batch, channels, height, width = x.shape
        length = height * width
        x = causal_conv1d_fn(x.flatten(2), self.conv, activation='silu').view(x.shape)
        pair = torch.stack([x.flatten(2), x.mT.flatten(2)], 1)
        xs = torch.cat([pair, pair.flip(-1)], 1)
        projected = torch.einsum('bkdl,kcd->bkcl', xs, self.x_proj)
        dt, B, C = projected.split([2, 3, 3], 2)
        dt = torch.einsum('bkrl,kdr->bkdl', dt, self.dt)
        y = self.scan(
            xs.view(batch, -1, length), dt.contiguous().view(batch, -1, length), -self.A_log.exp(),
            B.contiguous(), C.contiguous(), self.D, self.dt_bias, True,
        ).view(batch, 4, -1, height, width)  # fmt: skip
        return y.sum(1)


def plain(u, delta, A, B, C, D, delta_bias, delta_softplus):
    return selective_scan_fn(u, delta, A, B, C, D, None, delta_bias, delta_softplus)


def step(scan):
    torch.manual_seed(0)
    block = CrossScanBlock(scan)
    x = torch.randn(2, 6, 5, 4, requires_grad=True)
    y = block(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in block.parameters())]


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', required=True)
    out = parser.parse_args().out
    results = {name: step(f) for name, f in {'plain': plain, 'oflex': Oflex.apply, 'core': Core.apply}.items()}
    results['mamba'] = step(Mamba.apply)
    assert mamba_chunk_scan_combined is None
    half = torch.randn(1, 4, 9).half()
    results['half'] = Oflex.apply(half, half, -torch.rand(4, 2), half[:, None, :2], half[:, None, 2:]).dtype
    for uncovered in (lambda: Mamba2(d_model=4), lambda: causal_conv1d_fn(half, half[0, :, :4], seq_idx=half)):
        try:
            uncovered()
        except NotImplementedError as error:
            print(error)
    torch.save({'results': results, 'path': sys.path[0]}, out)
