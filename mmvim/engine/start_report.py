"""The lines at the start of a run that tell whether it is set up as meant."""

from datetime import timedelta
from typing import Any

from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvim.errors import UserValueError
from mmvim.machine import clock
from mmvim.ops import backends
from mmvim.registry import HOOKS


@HOOKS.register_module()
class StartReportHook(Hook):
    """Say what the scans run on, and after a few iterations how fast training is and when it will be done.

    Args:
        warmup (int): Iterations before the clock starts. Defaults to 3.
        report_at (int): Iteration of this run, counted from 1, after which the speed is logged. Defaults to 10.
    """

    priority = 'VERY_LOW'

    def __init__(self, warmup: int = 3, report_at: int = 10) -> None:
        if not 0 <= warmup < report_at:
            raise UserValueError(f'StartReportHook: expected 0 <= warmup < report_at, got {warmup} and {report_at}')
        self.warmup = warmup
        self.report_at = report_at

    def before_run(self, runner: Runner) -> None:
        """Name the backend of the scans."""
        runner.logger.info(backends.describe(get_device()))

    def before_train(self, runner: Runner) -> None:
        """Count from here, the start or where training was resumed."""
        self._first = runner.iter
        self._started = clock()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Start the clock, and read it."""
        done = runner.iter + 1 - self._first
        if done == self.warmup:
            self._started = clock()
        if done != self.report_at:
            return
        seconds = (clock() - self._started) / (self.report_at - self.warmup)
        batch_size = runner.train_dataloader.batch_sampler.batch_size * get_world_size()
        eta = timedelta(seconds=round(seconds * (runner.max_iters - runner.iter - 1)))
        runner.logger.info(
            f'speed: {seconds:.3f} s per iteration, {batch_size / seconds:.1f} images per second '
            f'(iterations {self.warmup + 1} to {self.report_at}); done in {eta}, validation not counted'
        )
