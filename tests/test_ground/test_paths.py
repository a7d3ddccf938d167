"""Where configs are, in a checkout and in an installed package."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

from mmvim import paths


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location('copied_paths', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_checkout() -> None:
    assert Path(__file__).resolve().parents[2] == paths.ROOT
    found = paths.find_configs()
    assert found['upernet_vim_s_ade20k'] == paths.CONFIGS / 'vim' / 'upernet_vim_s_ade20k.py'
    assert not [path for path in found.values() if '_base_' in path.parts]


def test_installed_package(tmp_path: Path) -> None:
    package = tmp_path / 'site-packages' / 'mmvim'
    (package / '.mim' / 'configs' / 'vim').mkdir(parents=True)
    (package / '.mim' / 'configs' / 'vim' / 'a.py').touch()
    shutil.copy(paths.__file__, package)
    installed = load(package / 'paths.py')
    assert package / '.mim' == installed.ROOT
    assert installed.find_configs() == {'a': package / '.mim' / 'configs' / 'vim' / 'a.py'}
