"""What a test of the zoo's evaluation writes down, in the process that tests."""

import json
import resource
import sys
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvim import machine
from mmvim.files import write_whole
from mmvim.ops import backends
from mmvim.registry import HOOKS
from mmvim.version import __version__

_PACKAGES = ('mmengine', 'mmcv', 'mmseg', 'mmdet')


@HOOKS.register_module()
class MeasureHook(Hook):
    """Write the metrics of a test, its speed, its peak memory, and what these depend on, to a JSON file.

    The speed is that of the model and of the metric together, without the loading of images; the first batch is left
    out where there are others. The memory is that of torch's tensors on a GPU, otherwise that of the whole process.

    Args:
        out (str): The file; it is whole or not there.
    """

    priority = 'LOWEST'

    def __init__(self, out: str) -> None:
        self.out = out
        self._times: list[float] = []
        self._images: list[int] = []

    def before_test(self, runner: Runner) -> None:
        """Count memory from here."""
        if get_device() == 'cuda':
            torch.cuda.reset_peak_memory_stats()

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start the clock."""
        self._started = machine.clock()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None
    ) -> None:
        """Read the clock."""
        self._times.append(machine.clock() - self._started)
        self._images.append(len(outputs))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the file, in the first process only."""
        if not is_main_process():
            return
        device = 'cuda' if get_device() == 'cuda' else 'cpu'
        first = 1 if len(self._times) > 1 else 0
        content = {
            'metrics': {name: float(value) for name, value in metrics.items()},
            'images': len(runner.test_dataloader.dataset),
            'images_per_second': get_world_size() * sum(self._images[first:]) / sum(self._times[first:]),
            'peak_memory': self._peak_memory(),
            'processes': get_world_size(),
            'batch_size': runner.test_dataloader.batch_sampler.batch_size,
            'machine': {**machine.describe(device), 'scans': backends.describe(device)},
            'versions': versions(),
        }
        write_whole(self.out, json.dumps(content, indent=2) + '\n')

    @staticmethod
    def _peak_memory() -> int:
        """Bytes."""
        if get_device() == 'cuda':
            return torch.cuda.max_memory_allocated()
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Of Python and of the packages that have a part in a test and are loaded."""
    found = {'python': sys.version.partition(' ')[0], 'torch': torch.__version__, 'mmvim': __version__}
    return found | {name: sys.modules[name].__version__ for name in _PACKAGES if name in sys.modules}
