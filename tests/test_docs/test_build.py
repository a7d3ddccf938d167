"""The pages build into one set without a warning."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_docs_build_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html']
    result = subprocess.run(
        [*command, '-d', tmp_path / 'trees', REPOSITORY / 'docs', tmp_path / 'html'], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert {page.stem for page in (REPOSITORY / 'docs').glob('**/*.md')} <= {
        page.stem for page in tmp_path.glob('html/**/*.html')
    }
