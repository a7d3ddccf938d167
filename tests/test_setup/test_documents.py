"""What the documents name exists: files, targets of make, and the config of the README."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [*REPOSITORY.glob('*.md'), *REPOSITORY.glob('docs/**/*.md'), *REPOSITORY.glob('*/README.md')]


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_links_and_files(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r'\]\(([^)#]+)', text) if '://' not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    folders = 'benchmarks/|configs/(?!mine/)|tools/|docs/|kernels/|tests/|mmvim/'
    named = re.findall(rf'(?<![\w/])(?:{folders})[\w./-]*[\w/]', text)
    missing += [name for name in named if not (REPOSITORY / name).exists()]
    assert not missing


READ_IN = {
    r"""environ(?:\.get\(|\[)['"](\w+)['"]""": ('mmvim/**/*.py', 'kernels/**/*.py', 'tools/*.py', 'benchmarks/**/*.py'),
    r"environ(?:\.get)?\('(MMVIM_\w+)'": ('tests/test_ops/*.py',),
    r'(?:getenv|environment)\("(\w+)"': ('kernels/**/*.cpp', 'kernels/**/*.h'),
    r'\$\{(\w+):?-': ('tools/*.sh',),
}


def test_every_environment_variable_is_on_its_page() -> None:
    page = (REPOSITORY / 'docs/environment.md').read_text()
    sources = [(pattern, path) for pattern, globs in READ_IN.items() for g in globs for path in REPOSITORY.glob(g)]
    read = {name for pattern, path in sources for name in re.findall(pattern, path.read_text())}
    assert {'MMVIM_BUILD', 'MMVIM_BACKEND', 'MMVIM_CPU_ISA', 'MMVIM_POISON', 'MMVIM_EMULATE_ORDER', 'PORT'} <= read
    assert {name for name in read if name.isupper()} - set(re.findall(r'`(\w+)`', page)) == set()
    said = set(re.findall(r'`(MMVIM_\w+)`', page))
    assert said <= read


def test_targets_of_make() -> None:
    targets = set(re.findall(r'^(\w+):', (REPOSITORY / 'Makefile').read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r'(?:`|^)make (\w+)', path.read_text(), re.MULTILINE)}
    assert {'demo', 'test', 'ops', 'lint'} <= named <= targets


def test_config_of_the_readme(tmp_path: Path) -> None:
    code = re.search(r'```python\n(_base_.*?)```', (REPOSITORY / 'README.md').read_text(), re.DOTALL).group(1)
    path = tmp_path / 'config.py'
    path.write_text(code)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(path).model)
    assert [tuple(level.shape) for level in model.extract_feat(torch.zeros(1, 3, 64, 96))][0] == (1, 256, 16, 24)
