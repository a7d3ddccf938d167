"""How configs of others find Vim, in interpreters that have not imported mmvim: one import leaves much behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = 'arch=dict(embed_dims=16, depth=1, patch_size=4, patch_stride=4)'
IMPORTS = "custom_imports = dict(imports=['mmvim'], allow_failed_imports=False)\n"


def run(code: str, folder: Path, *search: Path) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter that finds the repository behind the folders of ``search``."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [*search, ROOT])), 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_dotted_and_bare_names(tmp_path: Path, scope: str) -> None:
    (tmp_path / 'dotted.py').write_text(f"model = dict(type='mmvim.Vim', {TINY})")
    (tmp_path / 'bare.py').write_text(f"model = dict(type='Vim', {TINY})")
    (tmp_path / 'imported.py').write_text(f"{IMPORTS}model = dict(type='Vim', {TINY})")
    # The forked process has the scope's package and not mmvim, and what it imports stays its own.
    code = f"""
import os, sys
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

def build(name):
    model = MODELS.build(Config.fromfile(name + '.py').model)
    print(name, type(model).__module__, flush=True)

init_default_scope('{scope}')
try:
    build('bare')
except KeyError as error:
    print('bare', str(error)[1:41], flush=True)
assert 'mmvim' not in sys.modules
if os.fork() == 0:
    build('imported')
    os._exit(0)
os.wait()
build('dotted')
"""
    result = run(code, tmp_path)
    assert result.stdout.splitlines() == [
        f'bare Vim is not in the {scope}::model registry.',
        'imported mmvim.models.backbones.vim',
        'dotted mmvim.models.backbones.vim',
    ], result.stderr


def test_configs_of_the_package_serve_as_base(tmp_path: Path) -> None:
    """``_base_ = 'mmvim::...'`` reads the folder ``.mim`` of an installed package; this imitates one."""
    package = tmp_path / 'mmvim'
    (package / '.mim').mkdir(parents=True)
    for entry in (ROOT / 'mmvim').iterdir():
        if entry.name not in ('.mim', '__pycache__'):
            (package / entry.name).symlink_to(entry)
    for name in ('configs', 'model-index.yml'):
        (package / '.mim' / name).symlink_to(ROOT / name)
    (tmp_path / 'own.py').write_text("_base_ = ['mmvim::vim/upernet_vim_s_ade20k.py']")
    (tmp_path / 'parts.py').write_text("_base_ = ['mmvim::_base_/datasets/ade20k.py']")
    code = (
        'import mmvim\n'
        'from mmengine.config import Config\n'
        "print(Config.fromfile('own.py').model.backbone.arch, Config.fromfile('parts.py').data_root)"
    )
    result = run(code, tmp_path, tmp_path)
    assert result.stdout.split() == ['small', 'data/ade/ADEChallengeData2016'], result.stderr


def test_what_stands_in_the_root_registry(tmp_path: Path) -> None:
    code = """
import mmvim, mmvim.registry
from mmengine.registry import MODELS as ROOT, Registry
from mmvim.models import Vim
assert ROOT.get('Vim') is mmvim.registry.MODELS.get('Vim') is ROOT.get('mmvim.Vim') is Vim
# Only whole backbones stand in everybody's way; necks and norms keep to the scope mmvim.
print(*sorted(name for name, cls in ROOT.module_dict.items() if cls.__module__.startswith('mmvim')))

# Somebody's own Vim in another scope goes before ours there and leaves the dotted name alone.
other = Registry('model', parent=ROOT, scope='other')
own = other.register_module(name='Vim', module=type('Vim', (), {}))
print(other.get('Vim') is own, other.get('mmvim.Vim') is Vim)
try:
    ROOT.register_module(name='Vim', module=own)
except KeyError as error:
    print(error)
"""
    result = run(code, tmp_path)
    assert result.stdout.splitlines() == [
        'EfficientVMamba LocalVMamba LocalVim MM_VSSM MambaOut MambaVision PlainMamba PlainMambaAdapter VMamba Vim',
        'True True',
        "'Vim is already registered in model at mmvim.models.backbones.vim'",
    ], result.stderr


def test_a_fault_inside_mmvim_is_not_masked(tmp_path: Path) -> None:
    """With the ``custom_imports`` that shipped configs have, the cause is in the traceback."""
    (tmp_path / 'sitecustomize.py').write_text(
        'import sys\n'
        'class Broken:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        "        if name == 'mmvim.models.backbones.vim':\n"
        "            raise ImportError('the cause')\n"
        'sys.meta_path.insert(0, Broken())\n'
    )
    config = ROOT / 'configs' / 'vim' / 'upernet_vim_t_ade20k.py'
    result = run(f'from mmengine.config import Config\nConfig.fromfile({str(config)!r})', tmp_path, tmp_path)
    assert result.returncode != 0
    assert 'ImportError: the cause' in result.stderr
