"""Compare the operators on a GPU with the fp64 reference: outputs, all gradients, awkward shapes, values and strides.

    python benchmarks/gpu/check.py [--only lengths values ...]

Each part runs in a process of its own: one that breaks the GPU's context does not spoil the others. The exit code is 1
when anything failed.
"""

import json
import math
import os
import sys
import tempfile
from pathlib import Path

import torch
from common import Report, need_kernels, parse
from gpu_parts import GPU_PARTS
from parts import PARTS

from mmvim.analysis.measure import in_child


def run_part(name: str, device: str, quick: bool, path: str) -> None:
    """Write the rows of a part to a file, one line each, so that a crash leaves those before it."""
    if device == 'cuda':
        # What is not written shows: results and scratch memory start as NaN, and so does the allocator's memory.
        os.environ['MMVIM_POISON'] = '1'
        if name != 'large':
            torch.full((2**28,), math.nan, device=device)
    with open(path, 'w') as file:
        for row in {**PARTS, **GPU_PARTS}[name](device, quick):
            file.write(json.dumps(row) + '\n')
            file.flush()


def main() -> None:
    args = parse(__doc__)
    report = Report('check', args.device, args.minutes)
    need_kernels(args.device)
    failed = 0
    for name in args.only or (*PARTS, *(GPU_PARTS if args.device == 'cuda' else ())):
        with tempfile.NamedTemporaryFile('r', suffix='.jsonl') as file:
            problem = ''
            try:
                in_child(run_part, name, args.device, args.quick, file.name, timeout=max(report.left(), 1))
            except Exception as error:  # whatever it is, it is a finding, and the other parts go on
                problem = f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
            rows = [json.loads(line) for line in Path(file.name).read_text().splitlines()]
        wrong = [row for row in rows if not row['ok']]
        failed += len(wrong) + bool(problem)
        closest = max((float(row['of allowed']) for row in rows if 'of allowed' in row), default=0.0)
        notes = '; '.join(dict.fromkeys(row['note'] for row in rows if 'note' in row))
        report.add('parts', part=name, cases=len(rows), failed=len(wrong), **{'error / allowed': f'{closest:.2g}'},
                   problem=problem or notes)  # fmt: skip
        for row in wrong:
            report.add('failures', part=name, **row)
    if args.device == 'cpu':
        report.add('parts', part=', '.join(GPU_PARTS), problem='not run: they need a GPU')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
