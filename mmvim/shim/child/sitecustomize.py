"""Gives a process that a script under the shim starts the shim too, at its first import of what is not installed.

Python imports this file at its start, by its name; so it must cost nothing, and torch is left alone until then.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

NAMES = (
    'mamba_ssm', 'selective_scan_cuda', 'selective_scan_cuda_core', 'selective_scan_cuda_oflex', 'causal_conv1d',
    'causal_conv1d_cuda', 'triton',
)  # fmt: skip


class Waiting:
    """Stands in ``sys.meta_path`` until a name is asked for that nobody else has."""

    busy = False

    def find_spec(self, name, path=None, target=None):
        torch = sys.modules.get('torch')
        torch_asks = torch is not None and getattr(torch.__spec__, '_initializing', False)  # for triton, on its import
        if name not in NAMES or self.busy or torch_asks:
            return None
        self.busy = True
        if find_spec('mmvim') is None:  # a checkout that is not installed
            sys.path.append(str(Path(__file__).resolve().parents[3]))
        from mmvim.shim.finder import Finder, install

        install()
        sys.meta_path.remove(self)
        finder = next(finder for finder in sys.meta_path if isinstance(finder, Finder))
        return finder.find_spec(name, path, target)


def import_the_other() -> None:
    """An environment's own sitecustomize, which this one hides."""
    here, mine = str(Path(__file__).parent), sys.modules.pop('sitecustomize')
    path = list(sys.path)
    sys.path[:] = [folder for folder in path if folder != here]
    try:
        import_module('sitecustomize')
    except ModuleNotFoundError as error:
        if error.name != 'sitecustomize':
            raise
        sys.modules['sitecustomize'] = mine
    finally:
        sys.path[:] = path


if __name__ == 'sitecustomize':
    sys.meta_path.append(Waiting())
    import_the_other()
