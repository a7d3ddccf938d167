"""Files are whole or not there; tests/test_engine/test_checkpoint_hook.py kills a process that writes one."""

import os
from pathlib import Path

import pytest

from mmvim.files import draft_of, replacing, write_whole


def test_text_bytes_and_folders(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'file.json'
    write_whole(path, 'é')
    assert path.read_bytes() == 'é'.encode()
    write_whole(str(path), b'2')
    assert path.read_bytes() == b'2'
    assert os.listdir(path.parent) == ['file.json']


def test_name_without_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_whole('file', 'x')
    assert Path('file').read_text() == 'x'


def test_the_content_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        done.append(f'sync {os.readlink(f"/proc/self/fd/{descriptor}")}')
        fsync(descriptor)

    def note_replace(*names: Path) -> None:
        done.append('rename')
        replace(*names)

    monkeypatch.setattr(os, 'fsync', note_sync)
    monkeypatch.setattr(os, 'replace', note_replace)
    write_whole(tmp_path / 'file', 'x')
    assert done == [f'sync {draft_of(tmp_path / "file")}', 'rename', f'sync {tmp_path}']


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / 'picture.png'
    path.write_bytes(b'before')
    with pytest.raises(KeyboardInterrupt), replacing(path) as draft:
        draft.write_bytes(b'half')
        raise KeyboardInterrupt
    assert path.read_bytes() == b'before'
    assert os.listdir(tmp_path) == ['picture.png']


def test_drafts_are_hidden_and_keep_the_ending(tmp_path: Path) -> None:
    with replacing(tmp_path / 'x.tif') as draft, replacing(tmp_path / 'x.tif', shared=True) as other:
        assert draft.name.startswith('.') and draft.suffix == other.suffix == '.tif'
        assert str(os.getpid()) in other.name
        draft.write_bytes(b'first')
        other.write_bytes(b'second')
    assert (tmp_path / 'x.tif').read_bytes() == b'first'
