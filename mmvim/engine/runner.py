"""mmengine's runner with checkpoints that fit or stop the run."""

from collections.abc import Callable

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import RUNNERS as ROOT_RUNNERS
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from mmvim.checkpoints import read
from mmvim.checkpoints.match import fit_model, load_fitted
from mmvim.errors import UserValueError
from mmvim.registry import RUNNERS

from .going_on import PROCESSES, Schedules, check_optimizer, differences, nothing_left
from .pooled_norm import check_pooled_norm


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """mmengine's ``Runner``, except for what happens to checkpoints.

    ``load_from``, resuming and testing read files without running code from them (:func:`mmvim.checkpoints.read`),
    accept official layouts, and never go on with weights that do not fit. Only where training starts from
    ``load_from``, tensors that depend on the number of classes may differ: they keep their initial values and are
    listed in the log.

    Takes the arguments of mmengine's. The tools use it unless a config names a ``runner_type`` of its own.
    """

    _starts_training = False
    _resumes = False

    def train(self) -> nn.Module:
        """Train; see mmengine."""
        self._starts_training = True
        self.message_hub.update_info(PROCESSES, get_world_size())
        return super().train()

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The training loop; see mmengine.

        Raises:
            ValueError: if a batch of one image would come to batch norm over maps of one pixel.
        """
        loop = super().build_train_loop(loop)
        sampler = getattr(loop.dataloader, 'sampler', None)
        check_pooled_norm(self.cfg, len(sampler) if hasattr(sampler, '__len__') else None)
        return loop

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on from a checkpoint of a run.

        Where the config has another schedule than that run, the config's is taken over; of other data, batch size or
        number of processes the log warns.

        Raises:
            ValueError: if the file holds weights only, or the state of another optimizer.
        """
        self._resumes = True
        schedules = Schedules(self)
        super().resume(filename, *args, **kwargs)
        for sentence in (*self._differences, schedules.take_over(self, self._former), nothing_left(self)):
            if sentence:
                self.logger.warning(f'resuming {filename}: {sentence}')
        self._former = self._differences = None
        self.message_hub.update_info(PROCESSES, get_world_size())

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu') -> dict:
        """Fill the model from a file.

        Args:
            filename: a path or an address.
            map_location: as in ``torch.load``.

        Returns:
            The checkpoint, its ``state_dict`` in our layout.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: as :func:`mmvim.checkpoints.read` and
                :func:`mmvim.checkpoints.load_model`.
        """
        checkpoint = read(filename, map_location)
        if self._resumes and not {'meta', 'message_hub'} <= set(checkpoint):
            raise UserValueError(
                f'{filename} holds weights but not the state of a run: start from it with --cfg-options '
                f'load_from={filename} instead of --resume'
            )
        if self._resumes:
            check_optimizer(self, checkpoint, filename)
            self._former = {'param_schedulers': checkpoint.get('param_schedulers')}
            self._differences = list(differences(self, checkpoint))
            checkpoint['meta'].pop('config', None)  # mmengine would run it as a program
        new_classes = self._starts_training and not self._resumes
        report = fit_model(self.model, checkpoint, filename, new_classes)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_fitted(self.model, checkpoint, report)
        self._has_loaded = True
        return checkpoint


def build_runner(cfg: Config) -> MMEngineRunner:
    """:class:`Runner`, or the one that the config names as ``runner_type``."""
    return ROOT_RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
