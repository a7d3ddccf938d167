"""When kernels are tested, where the verdict is kept, and what ``auto`` makes of it; no GPU is there."""

import json
import multiprocessing
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mmvim.ops import backends, mamba_backend, self_test, trust
from mmvim.ops.backends import Implementation

CARD = torch.device('cuda', 0)
WRONG = 'scan (a table, N = 1, float16): dB is off by 0.5 of its largest value, allowed are 0.001'
NO_MEMORY = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20 MiB')


class Card:
    """A card that is not there, and what its self-test finds."""

    def __init__(self, folder: Path) -> None:
        self.name, self.library, self.cache = 'H100', folder / 'library.so', folder / 'cache'
        self.library.write_bytes(b'code')
        self.outcome: str | Exception = ''
        self.tests = 0

    def examine(self, kernels: str, device: torch.device) -> str:
        self.tests += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    @property
    def files(self) -> list[Path]:
        return sorted(self.cache.rglob('*.json'))


@pytest.fixture
def card(tmp_path, monkeypatch):
    card = Card(tmp_path)
    monkeypatch.setattr(trust, '_KNOWN', {})
    monkeypatch.setattr(trust, '_WARNED', {})
    monkeypatch.setattr(trust, 'LIBRARY', card.library)
    monkeypatch.setattr(trust, '_card', lambda device: {'card': card.name, 'driver': '580'})
    monkeypatch.setattr(self_test, 'examine', card.examine)
    monkeypatch.setattr(trust, '_is_here', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device=None: None)
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    monkeypatch.setattr(backends, 'KERNELS', frozenset({'cuda'}))
    monkeypatch.setenv('XDG_CACHE_HOME', str(card.cache))
    monkeypatch.delenv('MMVIM_BACKEND', raising=False)
    return card


def next_process() -> None:
    trust._KNOWN.clear()
    trust._WARNED.clear()


def taken(operator: str = 'scan', backend: str = 'auto') -> Implementation:
    return backends.resolve(backend, CARD, operator)


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


def test_right_kernels_are_tested_once_per_card(card, silent):
    for _ in range(3):
        assert taken() is Implementation.DISPATCHED
    next_process()
    assert taken() is Implementation.DISPATCHED
    assert trust.verdict('mmvim', torch.device('cuda')) == ('', f'kept in {card.files[0]}')
    assert (card.tests, len(card.files)) == (1, 1)


@pytest.mark.parametrize('change', ['library', 'card', 'torch', 'test'])
def test_a_verdict_is_for_one_library_card_driver_and_torch(card, change, monkeypatch, silent, tmp_path):
    taken()
    next_process()
    if change == 'library':
        card.library.write_bytes(b'other code')
    elif change == 'card':
        card.name = 'H200'
    elif change == 'torch':
        monkeypatch.setattr(torch, '__version__', '3.0')
    else:
        (tmp_path / 'self_test.py').write_text('other cases')
        monkeypatch.setattr(trust, '__file__', str(tmp_path / 'trust.py'))
    taken()
    assert (card.tests, len(card.files)) == (2, 2)


@pytest.mark.parametrize('outcome', [WRONG, RuntimeError('CUDA error: an illegal memory access\nCompile with ...')])
def test_wrong_kernels_are_not_taken(card, outcome, monkeypatch):
    card.outcome = outcome
    problem = outcome if outcome == WRONG else 'RuntimeError: CUDA error: an illegal memory access'
    for _ in range(2):  # the process that tests, and one that reads
        with pytest.warns(RuntimeWarning) as caught:
            assert [taken(), taken(), taken('walk_conv')] == [Implementation.TORCH] * 3
        assert len(caught) == 1
        text = str(caught[0].message)
        assert text.startswith(f"mmvim's CUDA kernels failed their self-test on H100: {problem}. ")
        assert 'MMVIM_BACKEND=cuda insists on them. Please report this text' in text
        assert str(card.files[0]) in text
        next_process()
    assert card.tests == 1
    monkeypatch.setenv('MMVIM_BACKEND', 'cuda')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert taken() is taken(backend='cuda') is Implementation.DISPATCHED


def test_a_card_that_takes_nothing_more(card, monkeypatch):
    card.outcome = RuntimeError('CUDA error: an illegal memory access')
    answers = iter([None, RuntimeError('CUDA error: an illegal memory access')])

    def synchronize(device=None):
        if isinstance(answer := next(answers), Exception):
            raise answer

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    with pytest.warns(RuntimeWarning, match='takes nothing more from this process, start it again'):
        assert taken() is Implementation.TORCH
    assert len(card.files) == 1


def test_an_earlier_error_is_not_one_of_the_kernels(card, monkeypatch):
    def synchronize(device=None):
        raise RuntimeError('CUDA error: device-side assert')

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    with pytest.raises(RuntimeError, match='device-side assert'):
        taken()
    assert (card.tests, card.files) == (0, [])


@pytest.mark.parametrize(
    'error', [NO_MEMORY, RuntimeError('CUDA out of memory: mmvim'), self_test.Unable('PyTorch fails')]
)
def test_what_says_nothing_is_not_kept(card, error):
    card.outcome = error
    with pytest.warns(RuntimeWarning, match='taken on cuda:0 without their self-test'):
        assert taken() is Implementation.DISPATCHED
    assert card.files == []
    card.outcome = WRONG
    with pytest.warns(RuntimeWarning, match='failed their self-test'):
        assert taken() is Implementation.TORCH


def damage(path: Path, how: str) -> None:
    kept = json.loads(path.read_text())
    path.write_bytes(
        {
            'empty': b'',
            'cut': path.read_bytes()[:-20],
            'bytes': b'\xff\xfe\x00',
            'deep': b'[' * 100_000,
            'list': b'[]',
            'of another card': json.dumps({**kept, 'about': {}}).encode(),
            'no verdict': json.dumps({**kept, 'problem': None}).encode(),
        }[how]
    )


@pytest.mark.parametrize('how', ['empty', 'cut', 'bytes', 'deep', 'list', 'of another card', 'no verdict'])
def test_damaged_files_are_mended(card, how, silent):
    taken()
    whole = card.files[0].read_bytes()
    damage(card.files[0], how)
    next_process()
    assert taken() is Implementation.DISPATCHED
    assert card.tests == 2
    assert card.files[0].read_bytes() == whole


def test_a_cache_that_cannot_be_written(card, monkeypatch, silent):
    card.cache.write_text('a file in the place of the folder')
    assert taken() is Implementation.DISPATCHED
    assert trust.verdict('mmvim', CARD).note.startswith(f'not kept: {card.cache}/mmvim/self_test/')
    next_process()
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(Path, 'home', lambda: (_ for _ in ()).throw(RuntimeError('no home')))
    assert trust.verdict('mmvim', CARD) == ('', 'not kept: there is no home for a cache')
    assert card.tests == 2


def test_a_library_that_was_removed(card, silent):
    card.library.unlink()
    assert taken() is Implementation.DISPATCHED
    assert (card.tests, card.files) == (1, [])


def test_threads_test_once(card):
    card.outcome = WRONG
    with pytest.warns(RuntimeWarning) as caught, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: taken(), range(64))) == {Implementation.TORCH}
    assert (card.tests, len(caught)) == (1, 1)


def _write_and_read(path: Path, about: dict[str, str], failed) -> None:
    for _ in range(30):
        trust._keep(path, about, WRONG)
        if trust._read(path, about) != (WRONG, f'kept in {path}'):
            failed.set()


def test_processes_write_whole_files(tmp_path):
    context = multiprocessing.get_context('fork')
    failed, path = context.Event(), tmp_path / 'self_test' / 'verdict.json'
    writers = [context.Process(target=_write_and_read, args=(path, {'card': 'H100'}, failed)) for _ in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 4
    assert not failed.is_set()
    assert list(path.parent.iterdir()) == [path]


HINDRANCES = {
    'this process was forked': lambda patch: patch.setattr(trust, 'IMPORTED_BY', -1),
    'torch.jit traces': lambda patch: patch.setattr(torch.jit, 'is_tracing', lambda: True),
    'a CUDA graph is captured': lambda patch: patch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True),
    'a transform of torch.func is at work': lambda patch: patch.setattr(
        torch._C, '_are_functorch_transforms_active', lambda: True
    ),
}


@pytest.mark.parametrize('hindrance', HINDRANCES)
def test_where_nothing_is_tested(card, hindrance, monkeypatch):
    """The kernels are taken with one warning; the next ordinary call tests them, and then the file counts."""
    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning) as caught:
        HINDRANCES[hindrance](patch)
        assert [taken(), taken()] == [Implementation.DISPATCHED] * 2
    assert [f'({hindrance}); `python -m mmvim.ops`' in str(warning.message) for warning in caught] == [True]
    assert card.tests == 0
    card.outcome = WRONG
    with pytest.warns(RuntimeWarning, match='failed their self-test'):
        assert taken() is Implementation.TORCH
    next_process()
    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning, match='failed their self-test'):
        HINDRANCES[hindrance](patch)
        assert taken() is Implementation.TORCH
    assert card.tests == 1


def _resolve_in_a_fork(queue) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        queue.put((taken() is Implementation.DISPATCHED, [str(warning.message) for warning in caught]))


def test_a_forked_worker(card):
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    card.outcome = WRONG  # which nobody finds out there
    trust._LOCK.acquire()  # as another thread may hold it at that moment
    try:
        worker = context.Process(target=_resolve_in_a_fork, args=(queue,))
        worker.start()
        took, said = queue.get()
        worker.join()
    finally:
        trust._LOCK.release()
    assert took
    assert len(said) == 1
    assert 'this process was forked' in said[0]


@pytest.mark.parametrize('kept', [None, '', WRONG])
def test_compiled_code_takes_what_is_known(card, kept):
    if kept is not None:
        card.outcome = kept
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            taken()
        next_process()
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend='eager')
    def call(x):
        return x + 1 if backends.resolve('auto', CARD) is Implementation.DISPATCHED else x - 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        assert call(torch.zeros(1)).item() == (-1 if kept else 1)
    assert card.tests == (kept is not None)
    said = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert len(said) == (kept != '')
    assert all(('torch.compile or torch.export traces' if kept is None else WRONG) in text for text in said)


def test_other_packages_take_the_place(card, monkeypatch):
    """mamba-ssm for scans and causal-conv1d for convolutions, where they are installed and right."""
    outcomes = {'mmvim': WRONG, 'mamba_ssm': '', 'causal_conv1d': ''}
    monkeypatch.setattr(self_test, 'examine', lambda kernels, device: outcomes[kernels])
    found = mamba_backend.Package('mamba-ssm 2.3.2'), mamba_backend.Package('causal-conv1d 1.7.0')
    monkeypatch.setattr(mamba_backend, 'find_scan', lambda: found[0])
    monkeypatch.setattr(mamba_backend, 'find_conv', lambda: found[1])
    with pytest.warns(RuntimeWarning, match="mmvim's CUDA kernels failed"):
        assert taken('scan') is taken('walk_conv') is Implementation.MAMBA_SSM
    assert 'scans: mamba-ssm 2.3.2 and causal-conv1d 1.7.0 (compiled CUDA kernels for' in backends.describe('cuda')
    next_process()
    for file in card.files:
        file.unlink()
    outcomes |= {'mamba_ssm': WRONG, 'causal_conv1d': WRONG}
    with pytest.warns(RuntimeWarning, match='the kernels of mamba-ssm failed'):
        assert taken('scan') is Implementation.TORCH
    with pytest.warns(RuntimeWarning, match='causal-conv1d failed'):
        assert taken('walk_conv') is Implementation.TORCH


def test_no_gpu_no_test(card, monkeypatch, silent):
    """Tensors without memory: for a model that is exported for a card elsewhere."""
    monkeypatch.setattr(trust, '_is_here', lambda: False)
    assert taken() is Implementation.DISPATCHED
    assert card.tests == 0


def test_float64_and_processors_ask_for_no_test(card, silent):
    assert backends.resolve('auto', CARD, wide=True) is Implementation.TORCH
    assert backends.resolve('auto', torch.device('cpu')) is Implementation.DISPATCHED
    assert card.tests == 0


def test_the_report_shows_the_verdict(card, monkeypatch):
    monkeypatch.setattr(backends, 'CUDA_ARCHITECTURES', 'sm_90')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: card.name)
    row = backends._report_cuda()
    assert row[2:] == (True, 'compiled CUDA kernels for sm_90; their self-test found them right', '')
    next_process()
    card.outcome = WRONG
    card.files[0].unlink()
    with pytest.warns(RuntimeWarning, match='failed'):
        row = backends._report_cuda()
    assert not row.available
    failed = f'compiled CUDA kernels for sm_90, which failed their self-test on H100: {WRONG} (kept in {card.files[0]})'
    assert row.reason == failed
    assert row.remedy == 'MMVIM_BACKEND=cuda in front of the command, to insist'
    assert backends.describe('cuda') == f'scans: plain PyTorch, the slow path ({failed}); faster: {row.remedy}'
