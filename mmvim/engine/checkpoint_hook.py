"""Checkpoints that survive a kill at any moment."""

import os
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmvim.files import draft_of, write_whole
from mmvim.registry import HOOKS

BACKEND = 'mmvim_atomic_local'


@register_backend(BACKEND)
class AtomicLocalBackend(LocalBackend):
    """mmengine's local disk, where ``put`` never leaves half a file under the final name."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``, making its folder if need be."""
        write_whole(filepath, obj)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that deletes a checkpoint only once its successor is on the disk.

    The stock hook deletes the outdated checkpoint first and then writes the new one in place, so that a job killed
    in between (queue limit, out of memory, power) with ``max_keep_ckpts=1`` is left with half a file. Here the
    order is: write under a temporary name, flush, rename, point ``last_checkpoint`` at it in the same way, delete. The
    best checkpoint likewise. What a kill leaves behind (half a file under a hidden name, an outdated checkpoint) goes
    at the next save, or when training is resumed.

    Takes the arguments of ``CheckpointHook``. On storage other than a local disk (``out_dir='s3://...'``, or
    ``backend_args`` of your own) only the order of writing and deleting changes.
    """

    def before_train(self, runner: Runner) -> None:
        """Find out where checkpoints go."""
        super().before_train(runner)
        if type(self.file_backend) is LocalBackend and self.backend_args is None:
            self.backend_args = {'backend': BACKEND}

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        # The same step again: the best checkpoint was updated after this one had been saved.
        if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids[0]
            # The list inside the checkpoint still has the outdated one: after a kill before its deletion, resuming
            # finds one too many in the list and deletes it.
            runner.message_hub.update_info('keep_ckpt_ids', [*self.keep_ckpt_ids, step])
            self.keep_ckpt_ids.append(step)
        if is_main_process():
            self._remove_leftovers()

        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_whole(os.path.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        if outdated is not None:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # The best score goes into the checkpoint, where a numpy scalar would be a class that a safe reader refuses.
        metrics = {name: value.item() if isinstance(value, np.number) else value for name, value in metrics.items()}
        # With the paths of the former best ones out of its sight, the stock method deletes nothing.
        former = self._best_paths()
        self._set_best_paths(dict.fromkeys(former))
        super()._save_best_checkpoint(runner, metrics)
        current = {key: path or former[key] for key, path in self._best_paths().items()}
        self._set_best_paths(current)
        for key, path in former.items():
            if path and path != current[key]:
                self._remove(path)
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    def _best_paths(self) -> dict[str, str | None]:
        return dict(self.best_ckpt_path_dict) if len(self.key_indicators) > 1 else {'': self.best_ckpt_path}

    def _set_best_paths(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) > 1:
            self.best_ckpt_path_dict = paths
        else:
            self.best_ckpt_path = paths['']

    def _remove(self, path: str) -> None:
        if not is_main_process():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's are folders
            self.file_backend.rmtree(path)

    def _remove_leftovers(self) -> None:
        for leftover in Path(self.out_dir).glob(str(draft_of(Path('*.pth')))):
            leftover.unlink()
