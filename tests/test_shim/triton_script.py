"""A file with Triton kernels and a path in PyTorch, as research code writes it; knows nothing of mmvim.

Run by test_scripts.py: alone, and as the start of spawned processes.
"""

import multiprocessing
import subprocess
import sys

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import driver

WIDTH = tl.constexpr(32)
triton.set_allocator(lambda size, alignment, stream: None)
DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16}
CONFIGS = [triton.Config({'BLOCK': block}, num_warps=4, num_stages=3) for block in (32, 64)]


@triton.autotune(configs=CONFIGS, key=['length'])
@triton.heuristics({'EVEN': lambda args: args['length'] % args['BLOCK'] == 0})
@triton.jit
def scale(x, length: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr = True):
    """Doubles x."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + place, libdevice.exp(tl.load(x + place)), mask=place < length)


@triton.jit(do_not_specialize=['n'])
def other(n, kind: tl.constexpr[int]):
    return n


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, with_triton):
        if with_triton:
            scale[(triton.cdiv(x.numel(), WIDTH.value),)](x, x.numel(), BLOCK=triton.next_power_of_2(x.numel()))
        return 2 * x


def work(number):
    import selective_scan_cuda_oflex

    x = torch.full((1, 2, 3), float(number))
    with torch.cuda.device(x.device), torch.cuda.device(x.device.index):
        y = selective_scan_cuda_oflex.fwd(x, x, -x[0, :, :1], x[:, :1, :], x[:, :1, :], None, None, False, 1, True)[0]
    return scale.__name__, y.sum().item()


if __name__ == '__main__':
    x = torch.arange(5.0)
    with torch.cuda.device(x.device):
        print(Scale.apply(x, False).tolist())
    refused = (
        lambda: Scale.apply(x, True), lambda: scale.warmup(x), lambda: other[(1,)](3),
        lambda: tl.zeros((2,), tl.float32), driver.active.get_current_device,
    )  # fmt: skip
    for call in refused:
        try:
            call()
        except NotImplementedError as error:
            print(error)
    print(scale.__doc__, [config.kwargs['BLOCK'] * config.num_warps for config in scale.configs], triton.__version__)
    print(torch.compile(lambda t: t.sin() + 1, backend='aot_eager')(x)[0].item())
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        print(pool.map(work, [1, 2]) == [work(1), work(2)])
    code = 'from mamba_ssm import selective_scan_fn, __version__; import torch, triton; print(triton.cdiv(7, 2))'
    print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd='/').stdout.strip())
    code = (
        'import sys, torch; print("mmvim" in sys.modules, "triton" in sys.modules, sys.modules["sitecustomize"].MINE)'
    )
    print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd='/').stdout.strip())
