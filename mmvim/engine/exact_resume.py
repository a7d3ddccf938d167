"""Randomness that depends on the seed and on how far training has come, and on nothing else."""

import operator
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Sampler

from mmvim.registry import HOOKS

# What the random numbers are for; the first word of every key.
STEP, EPOCH, SAMPLE = range(3)


def set_seeds(*key: int) -> None:
    """Seed ``random``, ``numpy.random`` and torch (every device) from a few non-negative integers."""
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int.from_bytes(words.tobytes()[:8], 'little'))


class Draw(int):
    """An index into a data set that carries the seed of the augmentations of this one draw."""

    key: tuple[int, ...]

    def __new__(cls, index: int, key: tuple[int, ...]) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.key = key
        return draw

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:  # for the way to a worker process
        return int(self), self.key


class NumberedSampler(Sampler):
    """A sampler whose indices are :class:`Draw`; everything else it leaves to the sampler it wraps.

    Args:
        sampler: The sampler. Indices that are no integers pass through as they are.
        key: First integers of the key of each draw; epoch and number follow.
    """

    def __init__(self, sampler: Sampler, key: tuple[int, ...]) -> None:
        self.sampler = sampler
        self.key = key
        self.start_epoch(0)
        if hasattr(sampler, 'skip'):  # mmengine asks whether it has one
            self.skip = self._skip

    def start_epoch(self, epoch: int) -> None:
        """Count from zero again."""
        self.epoch = epoch
        self.number = 0

    def _skip(self, num_samples: int) -> None:
        self.sampler.skip(num_samples)
        self.number = num_samples

    def __iter__(self) -> Iterator[Any]:
        for index in self.sampler:
            key = (*self.key, self.epoch, self.number)
            self.number += 1
            yield Draw(index, key) if hasattr(index, '__index__') else index

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['sampler'], name)


class SeededDataset:
    """A data set that seeds before it loads a :class:`Draw`; in all other respects the data set it wraps.

    Attributes are read from and written to the wrapped one, since hooks switch pipelines that way.
    """

    __getitems__ = None  # has the loader fetch one by one, whatever the wrapped data set offers

    def __init__(self, dataset: Any) -> None:
        self.__dict__['_dataset'] = dataset

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Draw):
            set_seeds(*index.key)
            index = operator.index(int(index))
        return self._dataset[index]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['_dataset'], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)

    def __reduce__(self) -> tuple:
        return SeededDataset, (self._dataset,)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make a resumed run go on exactly as if it had never been interrupted.

    mmengine's checkpoint has the weights, the optimizer, the schedulers, the moving average and the counters. What
    it lacks is the state of the random number generators, of which there are three per process, main process and
    workers alike. States could be stored, but not those of workers, which run ahead; and what a validation or a
    restarted loader draws in between would still make a difference. So there are no states to store here:

    - Before each training step the main process is seeded from (seed, iteration): dropout, stochastic depth, the
      sampling of boxes.
    - Before each image the process that loads it is seeded from (seed, rank, epoch, number of the draw): augmentations,
      with any number of workers. The number travels with the index, so no data is replayed on resuming.
    - The seed of the sampler is kept in the checkpoint; so the order of images is the same also without
      ``randomness=dict(seed=...)``.

    On a CPU the weights are then equal to the bit at any iteration (``IterBasedTrainLoop``), or from the last epoch's
    end on (``EpochBasedTrainLoop``), with the same batch size, number of processes and threads. On GPUs some of
    torch's own kernels add up in varying order. Not covered: transforms that remember earlier images
    (``CachedMosaic``, ``CachedMixUp``), gradients accumulated over several iterations when the checkpoint falls
    between two updates, and loops that open the data loader before they start (mmengine before 0.10.12).
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Number the draws of the training data, and seed by that number."""
        loader = runner.train_dataloader
        if isinstance(loader.dataset, SeededDataset):
            return
        if not hasattr(loader.batch_sampler, 'sampler'):
            runner.logger.warning(
                f'{type(self).__name__}: the indices of {type(loader.batch_sampler).__name__} cannot be numbered; '
                'augmentations will differ after resuming'
            )
            return
        sampler = loader.batch_sampler.sampler
        if hasattr(sampler, 'seed'):
            sampler.seed = runner.message_hub.get_info('sampler_seed', sampler.seed)
            runner.message_hub.update_info('sampler_seed', sampler.seed)
        self.sampler = NumberedSampler(sampler, (SAMPLE, runner.seed, get_rank()))
        # The loader refuses to have these three exchanged, because one without the others would not fit; these do.
        # Building another loader instead would lose the workers' settings.
        if loader.sampler is sampler:
            object.__setattr__(loader, 'sampler', self.sampler)
        loader.batch_sampler.sampler = self.sampler
        object.__setattr__(loader, 'dataset', SeededDataset(loader.dataset))

    def before_train_epoch(self, runner: Runner) -> None:
        """Start counting; torch's own samplers draw their order from the main process, too."""
        set_seeds(EPOCH, runner.seed, runner.epoch)
        if hasattr(self, 'sampler'):
            self.sampler.start_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step."""
        set_seeds(STEP, runner.seed, runner.iter)
