"""Where the parts of the project are that are no modules: in a checkout, or inside the installed package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
#: The folder that has ``configs``, ``tools`` and ``benchmarks``: in a wheel ``.mim``, where OpenMMLab looks for them.
ROOT = PACKAGE.parent if (PACKAGE.parent / 'configs').is_dir() else PACKAGE / '.mim'
CONFIGS = ROOT / 'configs'
#: The folder of published files, below the one that a command is typed in.
WEIGHTS = Path('weights')


def find_configs() -> dict[str, Path]:
    """Every config that is not a base of others, by its name without ending."""
    return {path.stem: path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts}
