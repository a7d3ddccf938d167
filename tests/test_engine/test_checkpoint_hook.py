"""Whatever moment a job is killed at, the folder holds a checkpoint to go on from."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner import find_latest_checkpoint
from test_engine.toy_line import train

from mmvim.engine import SafeCheckpointHook
from mmvim.files import draft_of, write_whole


@pytest.fixture(autouse=True)
def do_not_search_for_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each run the second or two in which mmengine lists them."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth*'))


@pytest.fixture
def half_way(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], None]], None]:
    """Have something happen when the named file is half written."""

    def arm(name: str, accident: Callable[[], None]) -> None:
        fsync = os.fsync

        def halt(descriptor: int) -> None:
            if name in os.readlink(f'/proc/self/fd/{descriptor}'):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                accident()
            fsync(descriptor)

        monkeypatch.setattr(os, 'fsync', halt)

    return arm


def disk_full() -> None:
    raise OSError(28, 'No space left on device')


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, half_way):
    path = tmp_path / 'file'
    write_whole(path, b'before')
    half_way('file', disk_full)
    with pytest.raises(OSError, match='No space left'):
        write_whole(path, b'after')
    assert path.read_bytes() == b'before'
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('half_written', ['iter_4.pth', 'last_checkpoint'])
def test_a_failed_save_leaves_the_former_checkpoint(tmp_path, half_way, half_written, monkeypatch):
    train(tmp_path, iterations=2)
    half_way(half_written, disk_full)
    with pytest.raises(OSError, match='No space left'):
        train(tmp_path, resume=True)
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')
    monkeypatch.undo()
    assert train(tmp_path, resume=True).iter == 6
    assert files(tmp_path) == ['iter_6.pth']


@pytest.mark.parametrize('half_written', ['iter_4.pth', 'last_checkpoint', 'best_acc_iter_4.pth'])
def test_kill_in_the_middle_of_a_write(tmp_path, half_way, half_written, monkeypatch):
    """With max_keep_ckpts=1 the former checkpoint is the only hope."""
    train(tmp_path, scores=[0.25], iterations=2, save_best='acc')
    half_way(half_written, kill)
    child = os.fork()
    if child == 0:
        train(tmp_path, scores=[0.5, 0.75], resume=True, save_best='acc')
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    monkeypatch.undo()

    left = [name for name in files(tmp_path) if not name.startswith('.')]
    assert left[0] == 'best_acc_iter_2.pth'
    assert draft_of(tmp_path / half_written).exists()
    latest = find_latest_checkpoint(str(tmp_path))
    assert latest == str(tmp_path / ('iter_4.pth' if 'best' in half_written else 'iter_2.pth'))
    for name in left:
        torch.load(tmp_path / name, weights_only=False)

    assert train(tmp_path, scores=[0.5, 0.75], resume=True, save_best='acc').iter == 6
    assert files(tmp_path) == ['best_acc_iter_6.pth', 'iter_6.pth']


def test_the_outdated_checkpoint_goes_when_a_kill_came_before_its_deletion(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SafeCheckpointHook, '_remove', lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert files(tmp_path) == ['iter_2.pth', 'iter_4.pth']
    train(tmp_path, resume=True)
    assert files(tmp_path) == ['iter_6.pth']


@pytest.mark.parametrize(
    ('max_keep', 'kept'), [(-1, ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']), (2, ['iter_4.pth', 'iter_6.pth'])]
)
def test_as_many_are_kept_as_asked_for(tmp_path, max_keep, kept):
    runner = train(tmp_path, max_keep_ckpts=max_keep)
    assert files(tmp_path) == kept
    if max_keep > 0:
        assert runner.message_hub.get_info('keep_ckpt_ids') == [4, 6]


def test_leftovers_of_a_kill_go_at_the_next_save(tmp_path):
    draft = draft_of(tmp_path / 'best_acc_iter_8.pth')
    draft.write_bytes(b'half')
    train(tmp_path, iterations=2)
    assert files(tmp_path) == ['iter_2.pth']


@pytest.mark.parametrize('save_best', ['acc', ['acc', 'mIoU'], 'auto'])
def test_the_former_best_is_there_until_the_new_one_is(tmp_path, save_best, monkeypatch):
    replace, before_rename = os.replace, {}

    def record(source: str, target: str) -> None:
        before_rename.setdefault(os.path.basename(target), files(tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', record)
    runner = train(tmp_path, scores=[0.25, 0.125, 0.5], save_best=save_best)
    assert 'best_acc_iter_2.pth' in before_rename['best_acc_iter_6.pth']
    assert 'iter_4.pth' in before_rename['iter_6.pth']
    others = ['best_mIoU_iter_4.pth'] if 'mIoU' in save_best else []
    assert files(tmp_path) == ['best_acc_iter_6.pth', *others, 'iter_6.pth']

    key = 'best_score_acc' if others else 'best_score'
    assert torch.load(tmp_path / 'iter_6.pth', weights_only=False)['message_hub']['runtime_info'][key] == 0.5
    assert type(runner.message_hub.get_info(key)) is float


def test_the_best_so_far_is_known_after_resuming(tmp_path):
    train(tmp_path, scores=[0.5], iterations=2, save_best='acc')
    train(tmp_path, scores=[0.25, 0.75], resume=True, save_best='acc')
    assert files(tmp_path) == ['best_acc_iter_6.pth', 'iter_6.pth']


def test_another_storage_keeps_its_own_backend(tmp_path):
    runner = train(tmp_path, iterations=2, backend_args={'backend': 'local'})
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    assert hook.backend_args == {'backend': 'local'}
    assert files(tmp_path) == ['iter_2.pth']
