"""Where the parts of the project are that are no modules: in a checkout, or inside the installed package."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
#: The folder that has ``configs``, ``tools`` and ``benchmarks``: in a wheel ``.mim``, where OpenMMLab looks for them.
ROOT = PACKAGE.parent if (PACKAGE.parent / 'configs').is_dir() else PACKAGE / '.mim'
CONFIGS = ROOT / 'configs'
#: The folder of published files, below the one that a command is typed in.
WEIGHTS = Path('weights')


def user_cache() -> Path | None:
    """Where things are kept that can be made again, of this user; none where the user has no home. It may not exist."""
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'mmvim')
    except RuntimeError:
        return None


def find_configs() -> dict[str, Path]:
    """Every config that is not a base of others, by its name without ending."""
    return {path.stem: path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts}
