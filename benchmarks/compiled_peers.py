"""The scan against compiled peers on this machine: time per element of a forward pass, with 1 and 2 threads.

    pip install mambapy onnx onnxruntime libggml-python
    python benchmarks/compiled_peers.py [--threads 1 2] [--seconds 10] [--out work_dirs/benchmarks]

Nothing is installed by it; a peer whose package is missing is left out. All take u, delta before softplus, A, B and C
of one walk, batch 1, fp32, each in the layout that suits it, and take turns. Before they are timed their results
are held against ours. Peers:

- ONNX Runtime: com.microsoft.LinearAttention by the rule "gated". A channel is a head: values are softplus(delta) u,
  decays softplus(delta) A, keys B (repeated, which is not timed apart: the graph does it) and queries C
- associative_scan: PyTorch's operator of this name, compiled
- ggml: its ssm_scan, as llama.cpp runs Mamba with; softplus is part of it
- mambapy: its parallel scan in PyTorch
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.engine.cpu import keep_freed_memory
from mmvim.ops import scan, walks
from mmvim.ops.mamba import selective_scan_fn

CASES = ((16, 384, 1025), (16, 384, 6085), (1, 96, 16384))  # N, D, L


class Inputs(NamedTuple):
    """Of one walk, batch 1: u and delta (L, D), A (D, N), B and C (L, N)."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor


Call = Callable[[], Tensor]  # gives y (L, D)


def make_inputs(d_state: int, channels: int, length: int) -> Inputs:
    """Random arguments at the scale of a trained model."""
    torch.manual_seed(0)
    return Inputs(
        torch.randn(length, channels), torch.randn(length, channels) - 4.0,
        -torch.arange(1.0, d_state + 1).repeat(channels, 1), torch.randn(length, d_state), torch.randn(length, d_state),
    )  # fmt: skip


def ours(inputs: Inputs, threads: int, backend: str = 'auto') -> Call:
    u, delta, A, B, C = (x.unsqueeze(0) for x in inputs)
    walk = walks.rows(u.shape[1])
    return lambda: scan(u, delta, A, B, C, walks=walk, backend=backend).squeeze(0)


def ours_in_pytorch(inputs: Inputs, threads: int) -> Call:
    return ours(inputs, threads, 'torch')


def channel_first(inputs: Inputs, threads: int) -> Call:
    u, delta, B, C = (x.T.contiguous().unsqueeze(0) for x in (inputs.u, inputs.delta, inputs.B, inputs.C))
    return lambda: selective_scan_fn(u, delta, inputs.A, B, C, delta_softplus=True).squeeze(0).T


def onnx_runtime(inputs: Inputs, threads: int) -> Call:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    (length, channels), d_state = inputs.u.shape, inputs.A.shape[1]
    nodes = [
        helper.make_node('Softplus', ['delta'], ['step']),
        helper.make_node('Mul', ['step', 'u'], ['values']),
        helper.make_node('Unsqueeze', ['step', 'last'], ['wide_step']),
        helper.make_node('Mul', ['wide_step', 'A'], ['wide_decay']),
        helper.make_node('Reshape', ['wide_decay', 'flat'], ['decay']),
        helper.make_node('Tile', ['B', 'times'], ['keys']),
        helper.make_node(
            'LinearAttention', ['C', 'keys', 'values', '', 'decay'], ['y', 'state'], domain='com.microsoft',
            q_num_heads=1, kv_num_heads=channels, update_rule='gated', scale=1.0,
        ),
    ]  # fmt: skip
    constants = {
        'A': inputs.A.numpy(), 'last': np.array([-1]), 'flat': np.array([1, length, channels * d_state]),
        'times': np.array([1, 1, channels]),
    }  # fmt: skip
    fed = {name: getattr(inputs, name).unsqueeze(0).numpy() for name in ('u', 'delta', 'B', 'C')}
    graph = helper.make_graph(
        nodes, 'scan', [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name, x in fed.items()],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(x, name) for name, x in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid('', 17), helper.make_opsetid('com.microsoft', 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    return lambda: torch.from_numpy(session.run(['y'], fed)[0]).view(length, channels)


@torch.compile
def _by_associative_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    step = F.softplus(delta)
    driven = (step * u).unsqueeze(-1) * B.unsqueeze(-2)
    _, states = associative_scan(combine, (torch.exp(step.unsqueeze(-1) * A), driven), 0, combine_mode='generic')
    return (states * C.unsqueeze(-2)).sum(-1)


def associative(inputs: Inputs, threads: int) -> Call:
    return lambda: _by_associative_scan(*inputs)


class _GgmlMemory(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (('size', ctypes.c_size_t), ('buffer', ctypes.c_void_p), ('no_alloc', ctypes.c_bool))


def ggml(inputs: Inputs, threads: int) -> Call:
    folder = Path(find_spec('libggml').origin).parent
    base, cpu = (ctypes.CDLL(next(folder.rglob(f'libggml-{part}.so')), ctypes.RTLD_GLOBAL) for part in ('base', 'cpu'))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name in ('ggml_init', 'ggml_new_tensor', 'ggml_ssm_scan', 'ggml_new_graph', 'ggml_get_data'):
        getattr(base, name).restype = pointer
    base.ggml_init.argtypes = [_GgmlMemory]
    base.ggml_new_tensor.argtypes = [pointer, ctypes.c_int, ctypes.c_int, ctypes.POINTER(number)]
    base.ggml_get_data.argtypes = base.ggml_new_graph.argtypes = [pointer]
    base.ggml_ssm_scan.argtypes = [pointer] * 8 + [number]
    base.ggml_build_forward_expand.argtypes = [pointer, pointer]
    cpu.ggml_graph_compute_with_ctx.argtypes = [pointer, pointer, ctypes.c_int]
    (length, channels), d_state = inputs.u.shape, inputs.A.shape[1]
    elements = 4 * length * (channels + d_state) + 3 * channels * d_state
    context = base.ggml_init(_GgmlMemory(64 * 2**20 + 8 * elements, None, False))

    def tensor(x: Tensor, *shape: int) -> int:
        """A tensor of ggml, the fastest axis first, with the values of x."""
        integers = x.dtype == torch.int32
        made = base.ggml_new_tensor(context, 26 if integers else 0, len(shape), (number * len(shape))(*shape))
        ctypes.memmove(base.ggml_get_data(made), x.contiguous().data_ptr(), x.numel() * 4)
        return made

    u, delta, A, B, C = inputs
    result = base.ggml_ssm_scan(
        context, tensor(torch.zeros(channels, d_state), d_state, 1, channels, 1), tensor(u, 1, channels, length, 1),
        tensor(delta, channels, length, 1), tensor(A, d_state, channels), tensor(B, d_state, 1, length, 1),
        tensor(C, d_state, 1, length, 1), tensor(torch.zeros(1, dtype=torch.int32), 1), 1,
    )  # fmt: skip
    graph = base.ggml_new_graph(context)
    base.ggml_build_forward_expand(graph, result)
    values = (ctypes.c_float * (length * channels)).from_address(base.ggml_get_data(result))
    y = torch.from_numpy(np.frombuffer(values, np.float32)).view(length, channels)

    def call() -> Tensor:
        cpu.ggml_graph_compute_with_ctx(context, graph, threads)
        return y

    return call


def mambapy(inputs: Inputs, threads: int) -> Call:
    from mambapy.pscan import pscan

    def call() -> Tensor:
        u, delta, A, B, C = inputs
        step = F.softplus(delta)
        decay = torch.exp(step.unsqueeze(-1) * A).unsqueeze(0)
        states = pscan(decay, ((step * u).unsqueeze(-1) * B.unsqueeze(-2)).unsqueeze(0)).squeeze(0)
        return (states @ C.unsqueeze(-1)).squeeze(-1)

    return call


# The package that a peer needs, beside it.
PEERS: dict[str, tuple[Callable[[Inputs, int], Call], str | None]] = {
    'scan': (ours, None),
    'selective_scan_fn': (channel_first, None),
    'scan in plain PyTorch': (ours_in_pytorch, None),
    'ONNX Runtime': (onnx_runtime, 'onnxruntime'),
    'associative_scan': (associative, None),
    'ggml': (ggml, 'libggml'),
    'mambapy': (mambapy, 'mambapy'),
}


def measure(case: tuple[int, int, int], threads: int, seconds: float) -> dict[str, float]:
    """Best time of every peer in ns per element, taking turns; in a process of its own."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    inputs, times = make_inputs(*case), {}
    with torch.no_grad():
        expected = ours(Inputs(*(x.double() for x in inputs)), threads)()
        calls = {
            name: make(inputs, threads) for name, (make, package) in PEERS.items() if not package or find_spec(package)
        }
        for name, call in calls.items():
            error = (call() - expected).norm() / expected.norm()
            if not error < 1e-4:
                raise SystemExit(f'{name} is wrong (relative error {error:.1e}): nothing was timed')
            times[name] = []
        end = time.perf_counter() + seconds
        while len(times['scan']) < 3 or time.perf_counter() < end:
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    elements = case[0] * case[1] * case[2]
    return {name: 1e9 * min(found) / elements for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='numbers of threads')
    parser.add_argument('--seconds', type=float, default=10.0, help='time for all peers of one case')
    args = parser.parse_args()
    for name, (_, package) in PEERS.items():
        if package and not find_spec(package):
            print(f'{name} is left out: {package} is not installed, see --help')
    rows = []
    for case in CASES:
        for threads in args.threads:
            times = in_child(measure, case, threads, args.seconds)
            what = 'N = {}, D = {}, L = {}'.format(*case)
            rows.append({'ns per element': what, 'threads': threads, **{k: f'{v:.3g}' for k, v in times.items()}})
            print(rows[-1], flush=True)
    about = {key: value for key, value in machine().items() if key != 'threads'}  # a column
    write_tables(args.out, 'compiled_peers', 'Forward scans of one walk, fp32, ns per element', about, rows)


if __name__ == '__main__':
    main()
