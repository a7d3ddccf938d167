"""Compare mmvim's MambaVision with the authors' package, on a CPU and on random weights.

    python tools/compare_mambavision.py [--arch tiny ...] [--package FOLDER] [--write-golden]

The package (mambavision 1.2.0, NVIDIA Source Code License-NC: not for commercial use) and einops are installed into a
temporary folder without what they depend on, unless --package names a folder that has them; nothing of them stays.
mmvim.shim computes what the package imports of mamba-ssm; of timm it needs an MLP and a few helpers, which stand in
below. Compared are the number of parameters, the names and shapes of weights, the maps of all stages and the scores: at
224 x 224, at two odd sizes, and with windows that are larger than the map. The exit code is 1 if something differs.

--write-golden stores samples of the package's outputs for the tests, with the scan of mamba-ssm's plain formula in the
place of mmvim's operator, and names and shapes of its weights.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmvim import shim
from mmvim.checkpoints import from_official
from mmvim.models import MambaVision
from mmvim.models.layers import MLP, DropPath, LayerNorm2d

DATA = Path(__file__).resolve().parents[1] / 'tests' / 'data'
sys.path.insert(0, str(DATA.parent))
from fill import filled_state_dict, image  # noqa: E402  the weights that the tests draw

PACKAGES = ('mambavision==1.2.0', 'einops==0.8.1')
TOLERANCE = 5e-5  # of the largest value
# The package's names, and the millions of parameters that its README gives, to a digit that is rounded or cut.
VARIANTS = {
    'tiny': ('mamba_vision_T', 31.8),
    'tiny2': ('mamba_vision_T2', 35.1),
    'small': ('mamba_vision_S', 50.1),
    'base': ('mamba_vision_B', 97.7),
    'large': ('mamba_vision_L', 227.9),
    'large2': ('mamba_vision_L2', 241.5),
}
# Height and width, and the windows of the last two stages.
SIZES = (((224, 224), (14, 7)), ((150, 210), (14, 7)), ((97, 161), (14, 7)), ((150, 210), (20, 9)))
STORED = 3000  # numbers of a map at most
SMALL = {'embed_dims': 16, 'stem_dims': 8, 'depths': (1, 1, 3, 2), 'heads': (2, 4), 'layer_scale': 1e-5}


def stand_in_for_timm() -> None:
    """Let the package import what it uses of timm: an MLP, DropPath, a norm, an initialiser, and tables of settings."""

    class Mlp(MLP):
        def __init__(self, in_features: int, hidden_features: int, act_layer: type = nn.GELU, drop: float = 0.0):
            super().__init__(in_features, hidden_features)
            self.act = act_layer()

    class NoSettings:
        @staticmethod
        def to_dict() -> dict:
            return {}

    contents: dict[str, dict[str, Any]] = {
        'timm': {},
        'timm.models': {},
        'timm.models.registry': {'register_model': lambda function: function},
        'timm.models.layers': {
            'trunc_normal_': nn.init.trunc_normal_, 'DropPath': DropPath, 'LayerNorm2d': LayerNorm2d,
        },
        'timm.models._builder': {
            'resolve_pretrained_cfg': lambda name: NoSettings, '_update_default_kwargs': lambda *_, **__: None,
        },
        'timm.models.vision_transformer': {'Mlp': Mlp, 'PatchEmbed': nn.Module},
    }  # fmt: skip
    for name, attributes in contents.items():
        module = ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module


def load_package(folder: Path) -> ModuleType:
    """The module of the package in ``folder`` that has its models."""
    sys.path.insert(0, str(folder))
    shim.install()
    stand_in_for_timm()
    from mambavision.models import mamba_vision

    return mamba_vision


def run_theirs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Maps of the stages in front of their downsampling, and the scores."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        return lambda module, args: found.update({name: args[0]})

    hooks = [
        (model.norm if level.downsample is None else level.downsample).register_forward_pre_hook(keep(f'stage{i}'))
        for i, level in enumerate(model.levels)
    ]
    with torch.no_grad():
        found['logits'] = model(x)
    for hook in hooks:
        hook.remove()
    return found


def run_ours(model: MambaVision, classifier: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The same of ours."""
    norm = {key: classifier[f'classifier.norm.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias')}
    with torch.no_grad():
        maps = model(x)
        pooled = nn.functional.batch_norm(maps[-1], *norm.values()).mean((2, 3))
        scores = nn.functional.linear(pooled, classifier['classifier.head.weight'], classifier['classifier.head.bias'])
    return {**{f'stage{i}': x for i, x in enumerate(maps)}, 'logits': scores}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, of the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def fill(model: nn.Module) -> dict[str, Tensor]:
    """Draw all weights of a model by their names."""
    state = filled_state_dict({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    model.load_state_dict(state)
    return state


def compare(package: ModuleType, arch: str) -> bool:
    """Print how far the two are apart; whether they agree."""
    name, millions = VARIANTS[arch]
    theirs = getattr(package, name)().eval()
    state, good = from_official(fill(theirs)), True
    classifier = {key: state.pop(key) for key in list(state) if key.startswith('classifier.')}
    for (height, width), windows in SIZES:
        for level, window in zip(theirs.levels[2:], windows, strict=True):
            level.window_size = window
        ours = MambaVision(arch, window_sizes=windows, out_norm=False).eval()
        ours.load_state_dict(state)
        x = image(1, height, width)
        expected, got = run_theirs(theirs, x), run_ours(ours, classifier, x)
        errors = {key: difference(got[key], expected[key]) for key in expected}
        worst = max(errors, key=errors.get)
        good &= errors[worst] <= TOLERANCE
        print(f'{arch:7} {height} x {width}, windows {windows}: {errors[worst]:.1e} of the largest value in {worst}')
    theirs, own = (sum(p.numel() for p in model.parameters()) for model in (theirs, ours))
    own += sum(
        classifier[f'classifier.{key}'].numel() for key in ('norm.weight', 'norm.bias', 'head.weight', 'head.bias')
    )
    good &= own == theirs and abs(own / 1e6 - millions) < 0.1
    print(f'{arch:7} parameters: {own:,} here, {theirs:,} in the package, {millions} million published')
    return good


def write_golden(package: ModuleType) -> None:
    """Store samples of the package's outputs, and the names of its weights."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    kept, package.selective_scan_fn = package.selective_scan_fn, selective_scan_ref
    for (height, width), windows in SIZES:
        theirs = package.mamba_vision_T(window_size=[8, 8, *windows]).eval()
        windows_said = '' if windows == (14, 7) else f'_windows_{"_".join(map(str, windows))}'
        _store(f'mambavision_tiny_{height}x{width}{windows_said}', theirs, 'tiny', windows, (height, width))
    theirs = package.MambaVision(
        dim=SMALL['embed_dims'], in_dim=SMALL['stem_dims'], depths=SMALL['depths'], window_size=(8, 8, 5, 3),
        mlp_ratio=4, num_heads=(1, 1, *SMALL['heads']), layer_scale=SMALL['layer_scale'], num_classes=10,
    ).eval()  # fmt: skip
    _store('mambavision_scaled_90x70', theirs, SMALL, (5, 3), (90, 70))
    package.selective_scan_fn = kept
    (DATA / 'mambavision').mkdir(exist_ok=True)
    for arch, (name, _) in VARIANTS.items():
        shapes = {key: list(tensor.shape) for key, tensor in getattr(package, name)().state_dict().items()}
        path = DATA / 'mambavision' / f'mambavision_{arch}.shapes.json'
        path.write_text(json.dumps(shapes, indent=0) + '\n')


def _store(name: str, model: nn.Module, arch: str | dict, windows: Sequence[int], size: Sequence[int]) -> None:
    fill(model)
    made_on = {'batch': 1, 'height': size[0], 'width': size[1], 'seed': 0}
    info: dict[str, Any] = {'package': PACKAGES[0], 'arch': arch, 'windows': windows, 'input': made_on, 'arrays': {}}
    info['shapes'] = None if isinstance(arch, str) else {k: list(v.shape) for k, v in model.state_dict().items()}
    arrays = {}
    for key, x in run_theirs(model, image(**made_on)).items():
        step = math.ceil((x.numel() / STORED) ** (1 / 3)) if x.dim() == 4 else 1
        steps = [1, step, step, step][: x.dim()]
        arrays[key] = x[tuple(slice(None, None, step) for step in steps)].numpy()
        info['arrays'][key] = {'full': {'shape': list(x.shape), 'absmax': x.abs().max().item()}, 'steps': steps}
    np.savez_compressed(DATA / 'golden' / f'{name}.npz', **arrays)
    (DATA / 'golden' / f'{name}.json').write_text(json.dumps(info, indent=1) + '\n')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n\n')[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arch', nargs='+', choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument('--package', type=Path, help='folder that has the package and einops, not to install them')
    parser.add_argument('--write-golden', action='store_true', help='write what the tests compare with')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.package is None:
            install = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', folder, *PACKAGES]
            subprocess.run(install, check=True)
        package = load_package(args.package or Path(folder))
        if args.write_golden:
            write_golden(package)
        good = [compare(package, arch) for arch in args.arch]
    sys.exit(0 if all(good) else 1)


if __name__ == '__main__':
    main()
