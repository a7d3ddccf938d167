"""Files of safetensors: read, written, in several parts, and refused in one sentence."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmvim.checkpoints import load_backbone, read
from mmvim.checkpoints.convert import convert
from mmvim.checkpoints.safetensors import MAX_HEADER
from mmvim.models import MambaOut

TINY = {'embed_dims': (4, 8, 8, 8), 'depths': (1, 1, 1, 1)}


def parts(folder: Path, state: dict) -> Path:
    names, places = list(state), {}
    for number, some in enumerate((names[:10], names[10:])):
        file = f'model-{number}.safetensors'
        save_file({key: state[key].contiguous() for key in some}, folder / file)
        places |= dict.fromkeys(some, file)
    index = folder / 'model.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': places}))
    return index


@pytest.mark.parametrize('several', [True, False])
def test_backbone_is_filled(tmp_path: Path, several: bool) -> None:
    source, target = MambaOut(TINY), MambaOut(TINY)
    path = tmp_path / 'a.safetensors'
    save_file({key: tensor.contiguous() for key, tensor in source.state_dict().items()}, path)
    load_backbone(target, parts(tmp_path, source.state_dict()) if several else path)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))


def test_converted_there_and_back(tmp_path: Path) -> None:
    state = MambaOut(TINY).state_dict()
    state['twice'] = state['stem.conv1.weight']
    meta = {'classes': ('sky', 'road'), 'palette': [(1, 2, 3), (4, 5, 6)]}
    torch.save({'state_dict': state, 'meta': {'dataset_meta': meta}}, tmp_path / 'a.pth')
    convert(tmp_path / 'a.pth', tmp_path / 'b.safetensors')
    assert load_file(tmp_path / 'b.safetensors').keys() == state.keys()
    assert read(tmp_path / 'b.safetensors')['meta']['dataset_meta']['classes'] == ['sky', 'road']
    convert(tmp_path / 'b.safetensors', tmp_path / 'c.pth')
    back = torch.load(tmp_path / 'c.pth', weights_only=True)
    assert all(torch.equal(back['state_dict'][key], tensor) for key, tensor in state.items())
    assert list(map(tuple, back['meta']['dataset_meta']['palette'])) == meta['palette']
    convert(tmp_path / 'b.safetensors', tmp_path / 'official.safetensors', to='official')
    assert 'downsample_layers.0.conv1.weight' in load_file(tmp_path / 'official.safetensors')


def test_device(tmp_path: Path) -> None:
    save_file({'a': torch.ones(2)}, tmp_path / 'a.safetensors')
    assert read(tmp_path / 'a.safetensors', 'meta')['state_dict']['a'].is_meta


def test_header_that_looks_like_a_page(tmp_path: Path) -> None:
    """Its length, 15392, begins with a space and '<'."""
    save_file({'a': torch.ones(1)}, tmp_path / 'a.safetensors')
    content = (tmp_path / 'a.safetensors').read_bytes()
    length = int.from_bytes(content[:8], 'little')
    padded = (15392).to_bytes(8, 'little') + content[8 : 8 + length].ljust(15392) + content[8 + length :]
    (tmp_path / 'a.safetensors').write_bytes(padded)
    assert read(tmp_path / 'a.safetensors')['state_dict']['a'][0] == 1


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / 'a.safetensors'
    save_file({'a': torch.ones(100)}, path)
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:8] + b'{' * 40 + whole[48:], whole[:30]):
        path.write_bytes(content)
        with pytest.raises((RuntimeError, ValueError), match=r'a\.safetensors .*truncated, damaged or no checkpoint'):
            read(path)
    with path.open('wb') as file:  # sparse: nothing is written
        file.write((MAX_HEADER + 1).to_bytes(8, 'little') + b'{')
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(RuntimeError, match=f'a header of {MAX_HEADER + 1} bytes'):
        read(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[]', 'is no index of weights'),
        ('{', 'is no index of weights'),
        ('{"weight_map": {"a": 3}}', 'is no index of weights'),
        ('{"weight_map": {}}', 'expected 1 to 1000 names of files beside it'),
        ('{"weight_map": {"a": "../a.safetensors"}}', 'names of files beside it'),
        ('{"weight_map": {"a": "b.index.json"}}', 'names of files beside it'),
        ('{"weight_map": {"a": "b.safetensors"}}', r'1 of its 1 files are missing beside it, such as b\.safetensors'),
        ('{"weight_map": {"z": "a.safetensors"}}', r'z is not in a\.safetensors'),
    ],
)
def test_index_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    save_file({'a': torch.ones(2)}, tmp_path / 'a.safetensors')
    (tmp_path / 'm.index.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / 'm.index.json')


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({'a': torch.ones(2)}, tmp_path / 'a.safetensors')
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ModuleNotFoundError, match=r'a\.safetensors needs the package safetensors: pip install'):
        read(tmp_path / 'a.safetensors')
