"""Build the CUDA kernels for the card at hand and load them.

python benchmarks/gpu/build.py
"""

import os
import subprocess
import sys
import time

import torch
from common import ROOT, Report, parse


def main() -> None:
    args = parse(__doc__)
    report = Report('build', args.device, args.minutes)
    capability = '9.0' if args.device == 'cpu' else '{}.{}'.format(*torch.cuda.get_device_capability())
    environment = {'MMVIM_BUILD': 'cuda', 'TORCH_CUDA_ARCH_LIST': os.environ.get('TORCH_CUDA_ARCH_LIST', capability)}
    command = [sys.executable, 'kernels/build.py']
    written = ' '.join([*(f'{key}={value}' for key, value in environment.items()), 'python', *command[1:]])
    if args.device == 'cpu':
        report.add('build', command=written, result='not run: a dry run builds nothing')
        return
    start = time.perf_counter()
    failed = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (ROOT / 'mmvim').glob('_C*.so'))
    report.add(
        'build', command=written, seconds=round(seconds, 1), result='failed' if failed else f'{size / 1e6:.1f} MB'
    )
    # In a process of its own: this one has loaded what was there before.
    loads = subprocess.run([sys.executable, '-m', 'mmvim.ops'], cwd=ROOT, capture_output=True, text=True)
    for line in (loads.stdout + loads.stderr).splitlines():
        report.add('python -m mmvim.ops', says=line)
    sys.exit(1 if failed or loads.returncode else 0)


if __name__ == '__main__':
    main()
