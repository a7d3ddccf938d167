"""Full-size models as files: time and memory of the export, how exact a file is, and how fast, beside PyTorch.

    python benchmarks/exported.py [CASE ...] [--out work_dirs/benchmarks]

Random weights, one image of 512 x 512, fp32, every file in a process of its own, model and file by turns, the best time
of each counts.
"""

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config

from mmvim.analysis.measure import in_child, machine, write_tables
from mmvim.engine.cpu import keep_freed_memory
from mmvim.engine.quiet import quiet
from mmvim.export import export
from mmvim.export.compare import compare
from mmvim.export.model import Model, Weights
from mmvim.inference.runtimes import Exported
from mmvim.models.build import build_untrained
from mmvim.paths import ROOT

SIZE = (512, 512)
#: Config, part, format, form of the scan, weights, and what its time may be of PyTorch's.
CASES = {
    'vmamba_onnx': ('vmamba/upernet_vmamba_t_ade20k', 'model', 'onnx', 'plain', Weights(), '1.5'),
    'vmamba_onnx_half': ('vmamba/upernet_vmamba_t_ade20k', 'model', 'onnx', 'plain', Weights(half=True), ''),
    'vmamba_onnx_int8': ('vmamba/upernet_vmamba_t_ade20k', 'model', 'onnx', 'plain', Weights(int8=True), ''),
    'vmamba_openvino': ('vmamba/upernet_vmamba_t_ade20k', 'model', 'openvino', 'plain', Weights(), ''),
    'vmamba_openvino_kernels': ('vmamba/upernet_vmamba_t_ade20k', 'model', 'openvino', 'kernels', Weights(), ''),
    'vmamba_aoti': ('vmamba/upernet_vmamba_t_ade20k', 'model', 'aoti', 'plain', Weights(), '1.0'),
    'vim_onnx': ('vim/upernet_vim_t_ade20k', 'backbone', 'onnx', 'linear_attention', Weights(), '6'),
    'vim_openvino': ('vim/upernet_vim_t_ade20k', 'backbone', 'openvino', 'plain', Weights(), ''),
    'vim_openvino_kernels': ('vim/upernet_vim_t_ade20k', 'backbone', 'openvino', 'kernels', Weights(), ''),
    'vim_aoti': ('vim/upernet_vim_t_ade20k', 'backbone', 'aoti', 'plain', Weights(), '1.0'),
}


def measure(case: str, rounds: int = 5) -> dict[str, Any]:
    """A row of the table; meant for a fresh process."""
    keep_freed_memory()
    name, part, to, form, weights, goal = CASES[case]
    torch.manual_seed(0)
    with quiet(), TemporaryDirectory() as folder:
        cfg = Config.fromfile(ROOT / f'configs/{name}.py')
        checkpoint = Path(folder, 'random.pth')
        torch.save({'state_dict': build_untrained(cfg.model, cfg.default_scope).state_dict()}, checkpoint)
        model = Model.load(cfg, str(checkpoint), Path(name).name, part)
        start = time.perf_counter()
        path = export(model, to, Path(folder), SIZE, None, form, weights)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found = compare(model.module, Exported(path), [model.image(SIZE)] * rounds)
    ours, theirs = (min(one.seconds[i] for one in found) for i in (0, 1))
    agreement = found[0].agreement
    return {
        'case': case,
        'form of the scan': form if to in ('onnx', 'openvino') else 'our kernels',
        'weights': weights.name,
        'export, s': round(seconds),
        'GiB at most': round(peak, 1),
        'difference': f'{max(one.difference for one in found):.1e}',
        'same class': '' if agreement is None else f'{100 * agreement:.2f} %',
        'PyTorch, s': round(ours, 3),
        'file, s': round(theirs, 3),
        'file / PyTorch': round(theirs / ours, 2),
        'goal': goal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cases', nargs='*', metavar='CASE', help=f'of {", ".join(CASES)} (default: all)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the table')
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f'no case {", ".join(sorted(unknown))}; there are {", ".join(CASES)}')
    about, rows = machine(), []
    for case in args.cases or CASES:
        rows.append(in_child(measure, case))
        print(rows[-1], flush=True)
    write_tables(args.out, 'exported', 'Models as files, beside PyTorch', about, rows)


if __name__ == '__main__':
    main()
