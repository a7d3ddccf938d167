"""How the rooms of mmvim stand on each other, what they import from outside, and what `import mmvim` brings."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'mmvim'
# Rooms are the folders and files in mmvim/. A room imports from the floors below its own, and of its own floor nothing.
FLOORS = (
    {'errors', 'files', 'machine', 'markdown', 'moved', 'names', 'paths', 'registry', 'renamed', 'version'},
    {'catalogue', 'ops'},
    {'checkpoints', 'shim'},
    {'models', 'datasets'},
    {'engine', 'miniature', 'timm'},
    {'preflight'},
    {'analysis', 'inference'},
    {'export', 'web', 'zoo'},
    {'commands', 'doctor'},
    {'__init__'},
)
# Distributions by the name of what is imported from them; all others are called alike.
DISTRIBUTIONS = {
    'PIL': 'pillow', 'cv2': 'opencv-python', 'yaml': 'pyyaml', 'instant_clip_tokenizer': 'instant-clip-tokenizer',
    'mmengine': 'onedl-mmengine', 'mmcv': 'onedl-mmcv', 'mmdet': 'onedl-mmdetection', 'mmseg': 'onedl-mmsegmentation',
    'openslide': 'openslide-python',
}  # fmt: skip
# Imported only after a look whether it is there, with a sentence that says what to install: one baseline needs it.
LOOKED_FOR = {'mmpretrain'}


def modules() -> dict[tuple[str, ...], Path]:
    """Every module of the package by its name."""
    found = {}
    for path in (ROOT / PACKAGE).rglob('*.py'):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if '.mim' not in parts:
            found[parts[:-1] if parts[-1] == '__init__' else parts] = path
    return found


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What is imported at any depth, except for type checkers: module, and names taken from it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith('TYPE_CHECKING'):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split('.')), ()
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            yield base + tuple((node.module or '').split('.') if node.module else ()), tuple(a.name for a in node.names)
        else:
            yield from imports(node, package)


@cache
def arrows() -> dict[tuple[str, str], str]:
    """(room, room that it imports) -> one place where it does."""
    known, found = modules(), {}
    for name, path in known.items():
        package = name if path.name == '__init__.py' else name[:-1]
        for base, names in imports(ast.parse(path.read_text()), package):
            for target in [base + (taken,) for taken in names if base + (taken,) in known] or [base]:
                rooms = _room(name), _room(target)
                if target[0] == PACKAGE and rooms[0] != rooms[1]:
                    found[rooms] = f'{path.relative_to(ROOT)} imports {".".join(target)}'
    return found


def _room(name: tuple[str, ...]) -> str:
    return name[1] if len(name) > 1 else '__init__'


def test_every_room_has_one_floor() -> None:
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
    assert {_room(name) for name in modules()} <= set(rooms)


def test_imports_lead_downwards() -> None:
    """Then there is no circle either."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    assert ('models', 'ops') in arrows()
    wrong = [place for (room, other), place in arrows().items() if floor[other] >= floor[room]]
    assert not wrong, '\n'.join(wrong)


def test_imports_inside_functions_count_and_those_for_types_do_not() -> None:
    code = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from ..zoo import cli
def load():
    from ..checkpoints import read
    import mmvim.catalogue.find
"""
    found = list(imports(ast.parse(code), ('mmvim', 'models')))
    assert found[1:] == [(('mmvim', 'checkpoints'), ('read',)), (('mmvim', 'catalogue', 'find'), ())]


@pytest.mark.parametrize('room', ['catalogue', 'renamed'])
def test_the_ground_needs_python_alone(room: str) -> None:
    assert _outside(room) == set()


def _outside(room: str | None = None) -> set[str]:
    """Packages that are neither mmvim's nor Python's and that a room, or any of them, imports."""
    found = set()
    for name, path in modules().items():
        if room in (None, _room(name)):
            found |= {base[0] for base, _ in imports(ast.parse(path.read_text()), name) if base}
    return found - set(sys.stdlib_module_names) - {PACKAGE}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    extras = project['optional-dependencies']
    always, commands = ({re.match(r'[\w-]+', line)[0] for line in lines}
                        for lines in (project['dependencies'], extras['commands']))  # fmt: skip
    # Those that only others' imports need, or nobody's but the tests', are left out.
    others_need = {'commands', 'openmmlab', 'mamba-ssm', 'docs', 'test', 'dev'}
    names = extras.keys() - others_need
    others = {re.match(r'[\w-]+', line)[0] for name in names for line in extras[name]}
    imported = {DISTRIBUTIONS.get(name, name) for name in _outside() - LOOKED_FOR}
    assert imported <= always | commands | others, 'imported and not declared'
    assert always | commands <= imported, 'declared and not imported'
    assert {'mmvim[commands]'} <= {line for name in ('onedl',) for line in extras[name]} & set(extras['openmmlab'])


def test_import_brings_few_modules() -> None:
    code = 'import sys, mmvim; print(*(name for name in sys.modules if name.partition(".")[0] == "mmvim"))'
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert 'mmvim.models.backbones.vim' in loaded
    assert len(loaded) <= 53, loaded
