"""The doctor's questions can be asked where nothing but Python is left."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_nothing_is_imported_to_ask() -> None:
    code = (
        'import sys, types\n'
        f'package = types.ModuleType("mmvim"); package.__path__ = [{str(REPOSITORY / "mmvim")!r}]\n'
        'sys.modules["mmvim"] = package\n'
        'import mmvim.commands.doctor\n'
        'print(sorted({"torch", "mmengine", "mmcv", "numpy", "rich"} & set(sys.modules)))\n'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout == '[]\n', result.stderr
