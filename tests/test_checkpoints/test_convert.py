"""The converter: plain files out of anything, and nothing overwritten or half written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from official import official_state, save_classifier

from mmvim.checkpoints import read
from mmvim.checkpoints.convert import convert

TOOL = Path(__file__).parents[2] / 'tools' / 'convert_checkpoint.py'


def test_there_and_back(tmp_path: Path) -> None:
    source = save_classifier(tmp_path, 'tiny', depth=2)
    line = convert(source, tmp_path / 'ours.pth')
    assert line.startswith(f'{source}: 41 tensors -> {tmp_path / "ours.pth"}: 27 tensors (Vim, layout: ours)')
    convert(tmp_path / 'ours.pth', tmp_path / 'official.pth', to='official')
    back = torch.load(tmp_path / 'official.pth', weights_only=True)
    official = official_state('tiny_cls', 2)
    assert list(back) == ['model'] and back['model'].keys() == official.keys()
    assert all(torch.equal(back['model'][key], tensor) for key, tensor in official.items())


def test_only_weights_and_class_names_remain(tmp_path: Path) -> None:
    names = {'classes': ('sky', 'road'), 'palette': [[1, 2, 3]]}
    large = torch.zeros(1000, 1000)
    content = {'state_dict': {'backbone.a': large[0]}, 'meta': {'dataset_meta': names, 'epoch': 3}, 'optimizer': {}}
    torch.save(content, tmp_path / 'a.pth')
    line = convert(tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert 'of no known family, names unchanged' in line
    plain = torch.load(tmp_path / 'b.pth', weights_only=True)
    assert plain['meta'] == {'dataset_meta': names} and list(plain['state_dict']) == ['backbone.a']
    assert (tmp_path / 'b.pth').stat().st_size < 10_000

    content['meta']['dataset_meta'] = {'classes': np.array(['sky'])}
    torch.save(content, tmp_path / 'a.pth')
    convert(tmp_path / 'a.pth', tmp_path / 'b.pth', force=True)
    assert torch.load(tmp_path / 'b.pth', weights_only=True)['meta'] == {}


def test_existing_file_is_kept(tmp_path: Path) -> None:
    source = save_classifier(tmp_path, 'tiny', depth=1)
    target = tmp_path / 'b.pth'
    target.write_text('precious')
    with pytest.raises(FileExistsError, match=r'b\.pth exists: choose another name or give --force'):
        convert(source, target)
    with pytest.raises(FileExistsError, match='choose another name$'):
        convert(source, tmp_path, force=True)
    assert target.read_text() == 'precious'
    convert(source, target, force=True)
    assert 'state_dict' in read(target)


def test_failing_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_classifier(tmp_path, 'tiny', depth=1)
    target = tmp_path / 'b.pth'
    target.write_text('precious')

    def full(_: int) -> None:
        raise OSError('no space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='no space left'):
        convert(source, target, force=True)
    assert target.read_text() == 'precious'
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


def test_bad_input(tmp_path: Path) -> None:
    source = save_classifier(tmp_path, 'tiny', depth=1)
    with pytest.raises(FileNotFoundError, match=r'no folder .*nowhere to write b\.pth'):
        convert(source, tmp_path / 'nowhere' / 'b.pth')
    with pytest.raises(ValueError, match='expected one of ours, official'):
        convert(source, tmp_path / 'b.pth', to='theirs')
    torch.save({'model': {'a': torch.ones(1)}}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='no official layout for a model that is not known here'):
        convert(tmp_path / 'a.pth', tmp_path / 'b.pth', to='official')


def test_command_line(tmp_path: Path) -> None:
    source = save_classifier(tmp_path, 'tiny', depth=1)
    (tmp_path / 'b.pth').touch()
    command = [sys.executable, str(TOOL), str(source), str(tmp_path / 'b.pth')]
    environment = {**os.environ, 'PYTHONPATH': str(TOOL.parents[1])}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert result.stderr.strip() == f'error: {tmp_path / "b.pth"} exists: choose another name or give --force'
