"""The rule of tests/conftest.py: in CI a skip fails, unless the test needs a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / 'conftest.py'


@pytest.mark.parametrize(
    ('code', 'ci', 'fails'),
    [
        ('def test_a():\n    pytest.skip("no network")', 'true', True),
        ('def test_a():\n    pytest.skip("no network")', '', False),
        ('def test_a():\n    pytest.skip("needs a GPU")', 'true', False),
        ('@pytest.mark.skipif(True, reason="tomorrow")\ndef test_a():\n    pass', 'true', True),
        ('pytest.importorskip("a_module_of_nobody")\ndef test_a():\n    pass', 'true', True),
        ('def test_a():\n    pytest.xfail("known")', 'true', False),
    ],
)
def test_skip_in_ci(tmp_path: Path, code: str, ci: str, fails: bool) -> None:
    (tmp_path / 'conftest.py').write_text(CONFTEST.read_text())
    (tmp_path / 'test_it.py').write_text(f'import pytest\n\n\ndef test_other():\n    pass\n\n\n{code}\n')
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(tmp_path)]
    result = subprocess.run(command, env={**os.environ, 'CI': ci}, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode != 0) == fails, result.stdout
    assert ('CI allows no skip' in result.stdout) == fails
