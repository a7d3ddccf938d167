"""A run that is killed and resumed ends with the weights of the run that was not, to the bit."""

import copy
import pickle
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import InfiniteSampler
from test_engine.toy_run import run_toys
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmvim.engine.exact_resume import Draw, NumberedSampler, SeededDataset, set_seeds


def assert_same(ours: object, theirs: object, where: str) -> None:
    """Equality to the bit of nested dicts, lists, tensors and numbers."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f'{where}[{key!r}]')
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f'{where}[{number}]')
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), f'{where} differs by {(ours.float() - theirs.float()).abs().max()}'
    else:
        assert ours == theirs, where


def assert_same_training(ours: Path, theirs: Path) -> None:
    ours, theirs = (torch.load(path, weights_only=False) for path in (ours, theirs))
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_same(ours[part], theirs[part], part)
    losses = [ckpt['message_hub']['log_scalars']['train/loss'].data[0] for ckpt in (ours, theirs)]
    assert np.array_equal(*losses)


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs, whole ones and ones that were killed and resumed.

    They have random crops, colours, dropout, drop path, a moving average, and validations, which draw numbers as well.
    """
    folder = tmp_path_factory.mktemp('runs')
    whole, cut_2, cut_0, epochs, cut_epochs = (
        str(folder / name) for name in ('whole', 'cut_2', 'cut_0', 'epochs', 'cut_epochs')
    )
    chance = {'seed': None}
    same = {'seed_of': f'{cut_2}/iter_20.pth'}
    by_epoch = {'by_epoch': True, 'length': 4}
    signals = run_toys(
        {'work_dir': cut_2, 'workers': 2, **chance, 'kill': {'after': 13}},
        {'work_dir': cut_2, 'workers': 2, **chance, 'resume': True},
        {'work_dir': whole, **same},
        {'work_dir': cut_0, **same, 'kill': {'after': 13}},
        {'work_dir': cut_0, **same, 'resume': True},
        {'work_dir': epochs, **by_epoch},
        {'work_dir': cut_epochs, **by_epoch, 'workers': 2, 'kill': {'after': 8}},
        {'work_dir': cut_epochs, **by_epoch, 'workers': 2, 'resume': True},
    )
    assert signals == [signal.SIGKILL, 0, 0, signal.SIGKILL, 0, 0, signal.SIGKILL, 0]
    return folder


@pytest.mark.parametrize('cut', ['cut_0', 'cut_2'])
def test_twenty_iterations_equal_ten_and_a_kill_and_ten(runs, cut):
    """The uninterrupted run has no workers: neither their number nor a seed left to chance makes a difference."""
    assert_same_training(runs / cut / 'iter_20.pth', runs / 'whole/iter_20.pth')


def test_epochs_resume_exactly_with_persistent_workers(runs):
    assert_same_training(runs / 'cut_epochs/epoch_4.pth', runs / 'epochs/epoch_4.pth')


def test_seeds_cover_every_generator_and_differ_by_key():
    def draw(*key: int) -> tuple:
        set_seeds(*key)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    draws = [draw(*key) for key in ((0, 1, 2), (0, 2, 1), (1, 1, 2), (2, 1, 2, 0), (2, 1, 2, 1))]
    for values in zip(*draws, strict=True):
        assert len(set(values)) == len(draws)


def test_a_draw_survives_the_way_to_a_worker():
    draw = pickle.loads(pickle.dumps(Draw(5, (2, 7, 0))))
    assert draw == 5
    assert draw.key == (2, 7, 0)


class Noise(Dataset):
    """As many random numbers as asked for, by index."""

    pipeline = 'first'

    def __getitem__(self, index: int) -> tuple[int, float]:
        assert type(index) is int
        return index, np.random.rand()

    def __getitems__(self, indices: list[int]) -> list:
        raise AssertionError('the data set must be asked one by one')

    def __len__(self) -> int:
        return 5


class Sorting(BatchSampler):
    """A batch sampler that, as mmdet's by aspect ratio, looks into the data set and keeps indices back."""

    def __iter__(self):
        buckets = ([], [])
        for index in self.sampler:
            assert self.sampler.dataset.pipeline == 'first'
            bucket = buckets[index % 2]
            bucket.append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()


@pytest.mark.parametrize('batch_sampler', [BatchSampler, Sorting])
def test_an_image_is_augmented_anew_in_every_epoch_and_the_same_in_every_run(batch_sampler):
    def batches(skip: int = 0) -> list:
        data = Noise()
        sampler = NumberedSampler(InfiniteSampler(data, seed=1), (2, 3, 0))
        if skip:
            sampler.skip(skip)
        loader = DataLoader(SeededDataset(data), batch_sampler=batch_sampler(sampler, 2, False), collate_fn=list)
        return [sample for _, batch in zip(range(10), loader, strict=False) for sample in batch]

    samples = batches()
    assert samples == batches()
    assert len(samples) == 20 and len({value for _, value in samples}) == 20
    if batch_sampler is BatchSampler:
        assert batches(skip=6)[:14] == samples[6:]


def test_a_sampler_without_skip_does_not_pretend_to_have_one():
    assert not hasattr(NumberedSampler(torch.utils.data.SequentialSampler(Noise()), ()), 'skip')
    assert hasattr(NumberedSampler(InfiniteSampler(Noise(), seed=1), ()), 'skip')


def test_hooks_that_switch_the_pipeline_reach_the_wrapped_data_set():
    data = Noise()
    wrapped = SeededDataset(data)
    wrapped.pipeline = 'second'
    assert data.pipeline == 'second'
    assert wrapped.pipeline == 'second'
    assert len(wrapped) == 5
    for clone in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert isinstance(clone, SeededDataset)
        assert clone.pipeline == 'second'
