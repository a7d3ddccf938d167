"""Files of the repository that lay somewhere else in earlier releases, found for one release more."""

import sys
from pathlib import Path


def moved_config(path: Path) -> Path:
    """Where a config lies now; one line says so if it is not where it was looked for.

    The classifiers of ``configs/imagenet`` stand with the other configs of their family.

    Args:
        path: As somebody typed it.

    Returns:
        The new path, or ``path`` where nothing is known of it.
    """
    if path.exists() or path.parent.name != 'imagenet':
        return path
    now = path.parents[1] / path.stem.partition('_')[0] / path.name
    if not now.is_file():
        return path
    print(f'{path} is {now} now; the next release will not find it by the old name', file=sys.stderr)
    return now
