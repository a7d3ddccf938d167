"""What the GPU phases share: where they run, where results go, and that a dry run never looks like a measurement."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from mmvim.analysis.measure import machine, markdown  # noqa: E402
from mmvim.files import write_whole  # noqa: E402
from mmvim.ops.backends import has_kernels, report  # noqa: E402
from mmvim.ops.testing import relative_error, scan_case  # noqa: E402

__all__ = ['HERE', 'ROOT', 'Report', 'need_kernels', 'on', 'parse', 'relative_error', 'scan_case']

DRY = 'DRY RUN ON A CPU: it shows that the script works, no figure in it says anything of a GPU'
MINUTES, SPARE = 9.0, 30  # that a phase may take at most, and the seconds of them that its last row needs


def parse(description: str) -> argparse.Namespace:
    """The command line of a phase; ends the program where there is no GPU and none is meant."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda', help='cpu: a dry run of the logic')
    parser.add_argument('--quick', action='store_true', help='small shapes and few repetitions')
    parser.add_argument('--minutes', type=float, default=MINUTES, help='how long the phase may take, 9 at most')
    parser.add_argument('--only', nargs='+', metavar='PART', help='some parts of the phase')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.exit(2, 'torch sees no GPU; --device cpu runs the logic of the script on small shapes\n')
    return args


def need_kernels(device: str) -> None:
    """End the program where there are no CUDA kernels: the PyTorch path in their place says nothing of them.

    From here on, in this process and its children, they are taken even if they fail their self-test.
    """
    if device == 'cuda' and os.environ.get('MMVIM_BACKEND', 'auto') not in ('auto', 'cuda'):
        sys.exit(f'MMVIM_BACKEND={os.environ["MMVIM_BACKEND"]}: the CUDA kernels would not be taken; unset it')
    if device == 'cuda' and not has_kernels('cuda'):
        reason = next(row.reason for row in report() if row.name == 'cuda')
        sys.exit(f'there are no CUDA kernels ({reason}); first: tools/gpu_check.sh build')
    if device == 'cuda':
        os.environ['MMVIM_BACKEND'] = 'cuda'


class Report:
    """Tables of one phase, as Markdown and JSON in ``$OUT`` or ``gpu_check_out``, written anew with every row.

    Args:
        phase: Name of the files.
        device: ``'cuda'``; with ``'cpu'`` the files are called and headed as a dry run.
        minutes: That the phase may take.
    """

    def __init__(self, phase: str, device: str, minutes: float = MINUTES) -> None:
        self.seconds = 60 * minutes - SPARE
        self.folder = Path(os.environ.get('OUT') or 'gpu_check_out')
        self.name = phase if device == 'cuda' else f'dry_run_{phase}'
        self.title = phase if device == 'cuda' else f'{DRY} ({phase})'
        self.about = {**machine(device), **_surroundings(device), 'command': ' '.join(sys.argv)}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.start = time.perf_counter()

    def add(self, table: str, **row: Any) -> None:
        """Add a row whose keys are its columns."""
        self.tables.setdefault(table, []).append(row)
        print(f'{table}: ' + ', '.join(f'{key} {value}' for key, value in row.items() if value != ''), flush=True)
        self.write()

    def write(self) -> None:
        """Write what there is."""
        about = {**self.about, 'seconds': round(time.perf_counter() - self.start)}
        text = markdown(self.title, about, [])
        for name, rows in self.tables.items():
            text += f'\n#{markdown(name, {}, rows)}'
        write_whole(self.folder / f'{self.name}.md', text)
        content = {'title': self.title, 'machine': about, 'tables': self.tables}
        write_whole(self.folder / f'{self.name}.json', json.dumps(content, indent=1) + '\n')

    def left(self) -> float:
        """Seconds until the phase has to end."""
        return self.seconds - (time.perf_counter() - self.start)


def _surroundings(device: str) -> dict[str, str]:
    """Card, driver, compiler and sources that a figure belongs to."""
    found = {'sources': _first_line('git', '-C', str(ROOT), 'describe', '--always', '--dirty')}
    if device == 'cuda':
        card = torch.cuda.get_device_properties(0)
        found['capability'] = f'{card.major}.{card.minor}'
        found['L2'] = f'{card.L2_cache_size / 2**20:.0f} MiB'
        query = 'driver_version,clocks.max.sm,clocks.max.mem,power.limit'
        found[f'nvidia-smi {query}'] = _first_line('nvidia-smi', f'--query-gpu={query}', '--format=csv,noheader')
        found['nvcc'] = _last_line('nvcc', '--version')
    return {key: value for key, value in found.items() if value}


def _output(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        return []
    return subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()


def _first_line(*command: str) -> str:
    return next(iter(_output(*command)), '')


def _last_line(*command: str) -> str:
    return next(iter(reversed(_output(*command))), '')


def on(device: str, case: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operator with their tensors on a device."""
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in case.items()}
