"""mmvim's operators in OpenVINO: the extension, built, and files that hold the operators as they are."""

from pathlib import Path

import openvino
import pytest
import torch
from torch import Tensor, nn

from kernels.build_openvino import build_openvino
from mmvim.commands.export import main
from mmvim.errors import UserFileNotFoundError, UserValueError
from mmvim.export.graph import Maps, trace
from mmvim.export.onnx import write_openvino
from mmvim.inference import runtimes
from mmvim.inference.runtimes import KERNELS, Exported
from mmvim.models import LocalVMamba, Vim, VMamba
from mmvim.models.build import build_untrained
from mmvim.ops import Walks, scan, walk_conv, walks
from mmvim.ops.testing import scan_case
from mmvim.preflight.config import load_config

GRID = walks.cross(3, 5)
PADDED = walks.local(3, 5, ('h', 'v_flip', 'w2', 'w3_flip'))
STAGES = {'embed_dims': 8, 'depths': (1, 1)}
FAMILIES = {
    'vim': (lambda: Vim({'embed_dims': 16, 'depth': 2, 'patch_size': 16, 'patch_stride': 16, 'd_state': 3}), 2, 2),
    'vmamba': (lambda: VMamba(STAGES, out_indices=(0, 1)), 2, 0),
    'localvmamba': (
        lambda: LocalVMamba(STAGES, directions=('h', 'v_flip', 'w2', 'w3_flip'), out_indices=(0, 1)), 2, 0,
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp('extension') / '_openvino.so'
    build_openvino(library)
    return library


@pytest.fixture(autouse=True)
def extension(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, '_EXTENSION', built)
    torch.manual_seed(0)


def assert_same(module: nn.Module, image: Tensor, outputs: tuple[str, ...], folder: Path) -> str:
    """The file of a module computes what the module does; returns the graph."""
    path = folder / 'model.xml'
    write_openvino(trace(module, image), outputs, path, KERNELS, False, False)
    core = openvino.Core()
    core.add_extension(runtimes.openvino_extension())
    compiled = core.compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 2})
    with torch.no_grad():
        expected = module(image)
    expected = (expected,) if isinstance(expected, Tensor) else expected
    for found, map_ in zip(compiled(image.numpy()).values(), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), map_, rtol=0, atol=1e-5 * float(map_.abs().max()))
    return path.read_text()


@pytest.mark.parametrize('family', FAMILIES)
def test_backbones(family: str, tmp_path: Path) -> None:
    """Along kinds of walks and along tables with steps without a token."""
    build, scans, convolutions = FAMILIES[family]
    backbone = Maps(build().eval()).eval()
    graph = assert_same(backbone, torch.rand(1, 3, 52, 76), backbone.outputs, tmp_path)
    assert graph.count('type="Scan"') == scans and graph.count('type="WalkConv"') == convolutions


class Scan(nn.Module):
    """A scan of what it is given, all else its own."""

    def __init__(self, case: dict) -> None:
        super().__init__()
        self.options = {name: value for name, value in case.items() if not isinstance(value, Tensor)}
        for name, value in case.items():
            if isinstance(value, Tensor) and name != 'u':
                self.register_buffer(name, value)

    def forward(self, image: Tensor) -> Tensor:
        return scan(image, **self.options, **dict(self.named_buffers()))


@pytest.mark.parametrize('along', [GRID, PADDED], ids=['kinds', 'padded table'])
@pytest.mark.parametrize(
    'options',
    [
        {'rank': 2, 'z': True, 'scale': 0.5},
        {'merge': 'none', 'D': False, 'delta_bias': False, 'z': True},
        {'u_order': 'step', 'param_order': 'step', 'per_walk': True, 'delta_softplus': False},
        {'per_walk': False, 'own_parameters': False},
    ],
    ids=str,
)
def test_scans(along: Walks, options: dict, tmp_path: Path) -> None:
    case = scan_case(along, **options, dtype=torch.float32)
    assert_same(Scan(case), case['u'], ('y',), tmp_path)


class Convolution(nn.Module):
    def __init__(self, along: Walks, order: str, activation: str | None, bias: bool) -> None:
        super().__init__()
        self.options = {'walks': along, 'order': order, 'activation': activation}
        self.weight = nn.Parameter(torch.randn(along.num_walks, 3, 4))
        self.bias = nn.Parameter(torch.randn(along.num_walks, 3)) if bias else None

    def forward(self, image: Tensor) -> Tensor:
        return walk_conv(image, self.weight, self.bias, **self.options)


@pytest.mark.parametrize('along', [GRID, PADDED], ids=['kinds', 'padded table'])
@pytest.mark.parametrize(('order', 'activation', 'bias'), [('token', 'silu', True), ('step', None, False)])
def test_convolutions(along: Walks, order: str, activation: str | None, bias: bool, tmp_path: Path) -> None:
    module = Convolution(along, order, activation, bias).eval()
    assert_same(module, torch.randn(2, along.num_tokens, 3), ('y',), tmp_path)


CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=8, depths=(1, 1, 1, 1))),
    head=dict(in_channels=64, num_classes=5),
)
"""


@pytest.mark.parametrize('stored', [['--half'], ['--int8']], ids=str)
def test_the_command(stored: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports, opens and compares; says what to type where the extension is not built."""
    arguments = [*_classifier(tmp_path), '--size', '64x64', '--scan', KERNELS, *stored]
    assert main([*arguments, '--to', 'openvino']) == 0
    path = tmp_path / 'files/small.xml'
    assert 'type="Scan"' in path.read_text() and Exported(path).description['scan'] == KERNELS
    with pytest.raises(UserValueError, match='--scan kernels is for --to openvino: onnx has'):
        main([*arguments, '--to', 'onnx'])
    monkeypatch.setattr(runtimes, '_EXTENSION', tmp_path / 'nowhere.so')
    for needs in (lambda: Exported(path), lambda: main([*arguments, '--to', 'openvino'])):
        with pytest.raises(UserFileNotFoundError, match='not built: python kernels/build_openvino.py'):
            needs()


def _classifier(folder: Path) -> list[str]:
    """The arguments for a small VMamba with random weights, whose files go to ``folder / 'files'``."""
    base = Path(__file__).parents[2] / 'configs/vmamba/vmamba_t_imagenet.py'
    (folder / 'small.py').write_text(CONFIG.format(base=str(base)))
    cfg = load_config(folder / 'small.py')
    torch.save({'state_dict': build_untrained(cfg.model, cfg.get('default_scope')).state_dict()}, folder / 'small.pth')
    return [str(folder / 'small.py'), str(folder / 'small.pth'), '--out', str(folder / 'files')]
