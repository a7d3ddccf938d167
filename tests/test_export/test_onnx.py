"""Backbones of every family as ONNX files, run by ONNX Runtime and OpenVINO, beside PyTorch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor

from mmvim.export.graph import Maps, trace
from mmvim.export.onnx import write_onnx, write_openvino
from mmvim.models import (
    DeiT,
    EfficientVMamba,
    LocalVim,
    LocalVMamba,
    MambaOut,
    MambaVision,
    PlainMamba,
    Vim,
    VMamba,
)

PATCHES = {'embed_dims': 16, 'depth': 2, 'patch_size': 16, 'patch_stride': 16, 'd_state': 3}
STAGES = {'embed_dims': 8, 'depths': (1, 1)}
FAMILIES: dict[str, Callable] = {
    'vim': partial(Vim, PATCHES, rope=True, rope_residual=True, out_indices=(0, 1)),
    'vmamba': partial(VMamba, STAGES, out_indices=(0, 1)),
    'mambaout': partial(MambaOut, {'embed_dims': (8, 16), 'depths': (1, 1)}, out_indices=(0, 1)),
    'deit': partial(DeiT, {'embed_dims': 16, 'depth': 2, 'heads': 2}, out_indices=(0, 1)),
}
# For one size: walks along tables, or windows, which are filled up to whole ones.
TABLES: dict[str, Callable] = {
    'localvim': partial(LocalVim, PATCHES, directions=('v', 'w2', 'w7_flip'), out_indices=(0, 1)),
    'localvmamba': partial(LocalVMamba, STAGES, directions=('h', 'v_flip', 'w2', 'w3_flip'), out_indices=(0, 1)),
    'efficientvmamba': partial(
        EfficientVMamba, {'embed_dims': (8, 16), 'depths': (1, 1), 'scan_stages': 1}, out_indices=(0, 1)
    ),
    'plainmamba': partial(PlainMamba, {'embed_dims': 16, 'depth': 2, 'conv_blocks': (0,)}, out_indices=(0, 1)),
    'mambavision': partial(
        MambaVision, {'embed_dims': 16, 'stem_dims': 8, 'depths': (1, 1, 2), 'heads': (2,)}, out_indices=(1, 2)
    ),
}
OPEN = ((64, 64), (128, 192))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def assert_same(outputs: list, backbone: Maps, image: Tensor) -> None:
    with torch.no_grad():
        expected = backbone(image)
    assert len(outputs) == len(expected)
    for found, map_ in zip(outputs, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(found), map_, rtol=0, atol=1e-4 * float(map_.abs().max()))


@pytest.mark.parametrize(
    ('family', 'form'),
    [('vim', 'linear_attention'), ('vim', 'scan'), ('vmamba', 'scan'), ('mambaout', 'scan'), ('deit', 'scan')],
)
def test_sizes_that_stay_open(family: str, form: str, tmp_path: Path) -> None:
    """Traced at one size, run at that, at both ends, and where a side is that of the positions' table."""
    backbone = Maps(FAMILIES[family]().eval()).eval()
    path = tmp_path / 'model.onnx'
    write_onnx(trace(backbone, torch.rand(1, 3, 96, 128), OPEN), backbone.outputs, path, form, False, False)
    session = onnxruntime.InferenceSession(path)
    assert [output.name for output in session.get_outputs()] == ['map0', 'map1']
    for size in ((96, 128), *OPEN, (64, 160)):
        image = torch.rand(1, 3, *size)
        assert_same(session.run(None, {'image': image.numpy()}), backbone, image)


@pytest.mark.parametrize('family', [*FAMILIES, *TABLES])
def test_a_size_that_is_fixed(family: str, tmp_path: Path) -> None:
    """By plain operators; odd maps, for which walks along windows have steps without a token."""
    backbone = Maps((FAMILIES | TABLES)[family]().eval()).eval()
    path, image = tmp_path / 'model.onnx', torch.rand(1, 3, 52, 76)
    write_onnx(trace(backbone, image), backbone.outputs, path, 'plain', False, False)
    assert {node.domain for node in onnx.load(path).graph.node} <= {'', 'pkg.torch.ops'}
    assert_same(onnxruntime.InferenceSession(path).run(None, {'image': image.numpy()}), backbone, image)


def test_openvino(tmp_path: Path) -> None:
    backbone, image = Maps(TABLES['localvmamba']().eval()).eval(), torch.rand(1, 3, 52, 76)
    path = tmp_path / 'model.xml'
    write_openvino(trace(backbone, image), backbone.outputs, path, 'plain', False, False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['model.bin', 'model.xml']
    compiled = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    assert_same(list(compiled(image.numpy()).values()), backbone, image)


def test_weights_of_16_and_8_bits(tmp_path: Path) -> None:
    """Both are smaller, near what fp32 computes, and not the same."""
    wide = {'embed_dims': 64, 'depths': (1,)}
    backbone, image = Maps(VMamba(wide, out_indices=0).eval()).eval(), torch.rand(1, 3, 64, 64)
    program, sizes, maps = trace(backbone, image), {}, {}
    for name, options in {'float32': (False, False), 'float16': (True, False), 'int8': (False, True)}.items():
        path = tmp_path / f'{name}.onnx'
        write_onnx(program, backbone.outputs, path, 'scan', *options)
        sizes[name] = path.stat().st_size
        maps[name] = torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {'image': image.numpy()})[0])
    assert sizes['float16'] < 0.8 * sizes['float32'] and sizes['int8'] < 0.8 * sizes['float32']
    for name, limit in {'float16': 0.02, 'int8': 0.2}.items():
        error = (maps[name] - maps['float32']).abs().max() / maps['float32'].abs().max()
        assert 0 < error < limit
    assert sorted(file.name for file in tmp_path.iterdir()) == ['float16.onnx', 'float32.onnx', 'int8.onnx']
