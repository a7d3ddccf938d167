"""How Python comes to the modules that are not installed."""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mmvim.errors import UserModuleNotFoundError

from . import cuda, triton
from .modules import MAMBA_2, MODULES, TRITON_PARTS

CHILD = Path(__file__).with_name('child')


class Finder(MetaPathFinder, Loader):
    """Stands last in ``sys.meta_path``, so it is asked only for what nobody else has."""

    asking = False  # whether torch is looking for Triton, which must not find ours

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition('.')[0])
        ours = getattr(getattr(parent, '__spec__', None), 'loader', None) is self
        if parent is not None and not ours:
            return None
        if name == 'triton' or name.startswith('triton.'):
            return None if self.asking else self._spec(name, is_package=True)
        if name in MODULES:
            return self._spec(name, is_package=any(m.startswith(f'{name}.') for m in MODULES))
        if ours:
            advice = (
                MAMBA_2
                if '.ssd_' in name
                else 'it has ' + ', '.join(m for m in MODULES if m.startswith(f'{parent.__name__}.'))
            )
            raise UserModuleNotFoundError(f'mmvim.shim does not cover {name}: {advice}')
        return None

    def _spec(self, name: str, is_package: bool) -> ModuleSpec:
        return ModuleSpec(name, self, origin=__file__, is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> None:
        if spec.name == 'triton':
            self._answer_torch()

    def _answer_torch(self) -> None:
        """torch compiles for a CPU without Triton, if it looks for it before there is a stand-in, and remembers."""
        self.asking = True
        try:
            from torch._inductor.runtime import triton_compat  # noqa: F401
            from torch.utils._triton import has_triton_package

            has_triton_package()
        finally:
            self.asking = False

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__.partition('.')[0] == 'triton':
            triton.fill(module)
        else:
            vars(module).update(MODULES[module.__name__])


class TritonParts(MetaPathFinder):
    """Stands first: the Triton kernels of a mamba-ssm that is installed, where Triton is not."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in TRITON_PARTS else None
        if spec is not None:
            spec.loader = _Overlaid(name, spec.origin)
        return spec


class _Overlaid(SourceFileLoader):
    """Runs the file, whose other names may be imported too, then puts ours in the place of what cannot compute."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module).update(TRITON_PARTS[module.__name__])


def absent() -> list[str]:
    """Top-level names that no installed package has."""
    names = [name for name in MODULES if '.' not in name] + ['triton']
    return [name for name in names if name not in sys.modules and find_spec(name) is None]


def install() -> list[str] | None:
    """Serve what is absent, in this process and in those that it starts; None if that was done before.

    Returns:
        The top-level names that are served.
    """
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return None
    served = absent()
    sys.meta_path.append(Finder())
    if 'triton' in served:
        sys.meta_path.insert(0, TritonParts())
    cuda.install()
    folders = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    if str(CHILD) not in folders:
        os.environ['PYTHONPATH'] = os.pathsep.join([str(CHILD), *filter(None, folders)])
    return served
