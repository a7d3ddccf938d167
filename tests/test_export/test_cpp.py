"""The example in C++: built with CMake against the installed torch, held against Python to the pixel."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmvim.commands.export import main
from mmvim.inference.runtimes import Exported
from mmvim.miniature.scenes import render_scene
from mmvim.models.build import build_untrained
from mmvim.ops.backends import PACKAGE
from mmvim.preflight.config import load_config

ROOT = Path(__file__).parents[2]
KERNELS = PACKAGE / '_C.abi3.so'
SIZE = (48, 64)
CONFIG = f"""
_base_ = {str(ROOT / 'configs/vim/upernet_vim_t_ade20k.py')!r}
model = dict(
    backbone=dict(
        _delete_=True, type='mmvim.Vim', out_indices=(0,),
        arch=dict(embed_dims=16, depth=1, patch_size=16, patch_stride=16, d_state=4),
    ),
    neck=None,
    decode_head=dict(
        _delete_=True, type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=150,
        norm_cfg=dict(type='BN'), align_corners=False, concat_input=False,
    ),
    auxiliary_head=None,
)
"""


@pytest.fixture(scope='module')
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built; optimised like the exported code it would take a minute more."""
    folder = tmp_path_factory.mktemp('cpp')
    options = [f'-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}', '-DCMAKE_BUILD_TYPE=Debug']
    for command in (['-S', str(ROOT / 'examples/cpp'), '-B', str(folder), *options], ['--build', str(folder)]):
        result = subprocess.run([_cmake(), *command], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    return folder / 'segment'


def _cmake() -> str:
    """That of pip, which lies beside Python, or else the machine's."""
    beside = Path(sys.executable).parent / 'cmake'
    return str(beside) if beside.exists() else 'cmake'


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Vim, compiled by AOTInductor."""
    folder = tmp_path_factory.mktemp('package')
    (folder / 'small.py').write_text(CONFIG)
    cfg = load_config(folder / 'small.py')
    torch.manual_seed(0)
    torch.save({'state_dict': build_untrained(cfg.model, 'mmseg').state_dict()}, folder / 'small.pth')
    size = f'{SIZE[0]}x{SIZE[1]}'
    arguments = [str(folder / 'small.py'), str(folder / 'small.pth'), '--to', 'aoti', '--out', str(folder)]
    assert main([*arguments, '--size', size]) == 0
    return folder / 'small.aoti.pt2'


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_the_same_labels_as_python(program: Path, package: Path, tmp_path: Path) -> None:
    image = render_scene(np.random.default_rng(3), *SIZE).image
    (tmp_path / 'picture.ppm').write_bytes(b'P6\n# drawn\n64 48\n255\n' + image.tobytes())
    result = run(program, package, KERNELS, tmp_path / 'picture.ppm', tmp_path / 'labels.pgm')
    assert result.returncode == 0, result.stderr
    header, _, pixels = (tmp_path / 'labels.pgm').read_bytes().partition(b'255\n')
    assert header == b'P5\n64 48\n'
    labels = np.frombuffer(pixels, np.uint8).reshape(SIZE)
    exported = Exported(package)
    given = exported.description['input']
    mean, std = (torch.tensor(given[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    normalised = (torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std
    expected = exported(normalised[None])[0].argmax(1)[0].numpy()
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(labels, expected)


def test_bad_input(program: Path, package: Path, tmp_path: Path) -> None:
    """One sentence each, and nothing written."""
    small = tmp_path / 'small.ppm'
    small.write_bytes(b'P6 2 2 255 ' + bytes(12))
    cut = tmp_path / 'cut.ppm'
    cut.write_bytes(b'P6 64 48 255 ' + bytes(5))
    none = tmp_path / 'none.ppm'
    none.write_bytes(b'JPEG')
    whole = tmp_path / 'whole.ppm'
    whole.write_bytes(b'P6 64 48 255 ' + bytes(3 * 64 * 48))
    labels = tmp_path / 'labels.pgm'
    for picture, kernels, sentence in (
        (tmp_path / 'nowhere.ppm', KERNELS, 'there is no file'),
        (small, KERNELS, 'takes pictures of 48 x 64'),
        (cut, KERNELS, 'is cut off'),
        (none, KERNELS, 'is no binary PPM'),
        (whole, tmp_path / 'nowhere.so', 'no kernels'),
    ):
        result = run(program, package, kernels, picture, labels)
        assert result.returncode == 1 and sentence in result.stderr and result.stderr.count('\n') == 1
    assert run(program).returncode == 2
    assert not labels.exists()
