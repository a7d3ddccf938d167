"""Every ```shell block of the documents is run, page by page, or says in a comment why it is not.

``python tools/train.py`` and ``tools/test.py`` run for two iterations on small images (rehearsal.py), miniature data
sets have a few images; all other commands run as they stand. The working folder has the checkout's configs and tools,
and official files of random weights.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from official import save_classifier

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / 'README.md', *sorted(REPOSITORY.glob('docs/**/*.md'))]
BLOCK = re.compile(r'(?:<!-- not run: (?P<reason>[^>]+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)```', re.DOTALL)
COMMAND = re.compile(r'^(?:\$ )?(?:python|pip|make|bash|tools/\S+\.sh)\b', re.MULTILINE)


def blocks(page: Path) -> list[re.Match]:
    """The fenced blocks of a page."""
    return list(BLOCK.finditer(page.read_text()))


def runnable(page: Path) -> str:
    """The shell blocks of a page that are run, one after the other."""
    return '\n'.join(b['code'] for b in blocks(page) if b['language'] == 'shell' and not b['reason'])


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_commands_are_marked_as_shell(page: Path) -> None:
    """A command in a block of another kind would never be run."""
    unmarked = [
        b['code'] for b in blocks(page) if b['language'] in ('', 'bash', 'sh', 'console') and COMMAND.search(b['code'])
    ]
    assert not unmarked
    assert all(b['language'] == 'shell' for b in blocks(page) if b['reason'])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout to work in, and a ``python`` that rehearses training and testing."""
    for path in REPOSITORY.iterdir():
        if path.name not in ('.git', '.venv', 'work_dirs', 'data', 'weights', 'out') and not path.name.startswith('.'):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / 'bin').mkdir()
    python = tmp_path / 'bin' / 'python'
    rehearsal = Path(__file__).with_name('rehearsal.py')
    python.write_text(
        '#!/bin/sh\n'
        'case "$1" in\n'
        f'tools/train.py|tools/test.py) exec {sys.executable} {rehearsal} "$@";;\n'
        f'tools/make_miniature.py) exec {sys.executable} "$@" --train 8 --val 4;;\n'
        f'*) exec {sys.executable} "$@";;\n'
        'esac\n'
    )
    python.chmod(0o755)
    return tmp_path


def provide_weights(folder: Path, script: str) -> None:
    """Official files of the names that the commands' configs ask for, with random values."""
    folder.mkdir()
    if 'vim_s' in script:
        save_classifier(folder, 'small')


@pytest.mark.parametrize('page', [page for page in PAGES if runnable(page)], ids=lambda path: path.name)
def test_shell_blocks_run(page: Path, place: Path) -> None:
    script = runnable(page)
    provide_weights(place / 'weights', script)
    environment = {**os.environ, 'PATH': f'{place / "bin"}:{os.environ["PATH"]}', 'PYTHONPATH': str(REPOSITORY)}
    command = ['bash', '-euxo', 'pipefail', '-c', script]
    result = subprocess.run(command, cwd=place, env=environment, text=True, capture_output=True, timeout=600)
    assert result.returncode == 0, f'{result.stdout[-3000:]}\n{result.stderr[-3000:]}'
