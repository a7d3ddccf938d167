"""Images and label maps that are not where the data set looks for them."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .tally import Kind, Severity, Tally

IMAGES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}

MISSING_IMAGE = Kind(Severity.ERROR, 'images that are missing', 'put them there, or take them off the list.')
MISSING_LABEL = Kind(Severity.ERROR, 'label maps that are missing', 'put them there, or take their images away.')


class Folders:
    """What is in folders, each listed once."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: str) -> set[str]:
        """Names of the files and folders in a folder; none if it does not exist."""
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder))
            except OSError:
                self._names[folder] = set()
        return self._names[folder]

    def has(self, path: str) -> bool:
        """Whether a file is there; what is read through an address is taken to be."""
        folder, name = os.path.split(path)
        return '://' in path or name in self.names(folder)

    def instead(self, path: str) -> str:
        """A file of the same stem, with another suffix or in other case, or nothing."""
        folder, name = os.path.split(path)
        if folder not in self._by_stem:
            by_stem = self._by_stem[folder] = {}
            for other in sorted(self.names(folder)):
                by_stem.setdefault(Path(other).stem.lower(), []).append(other)
        return next(iter(self._by_stem[folder].get(Path(name).stem.lower(), [])), '')


def check_files(
    files: Iterable[tuple[str, str | None]], dataset: object, folders: Folders, tally: Tally
) -> list[tuple[str, str | None]]:
    """Find images and label maps that are missing.

    Args:
        files: Image and label map of every sample.
        dataset: Whose samples they are; its suffixes are named in remedies.
        folders: What is on the disk.
        tally: Takes the faults.

    Returns:
        Those that are there.
    """
    there = []
    for image, label in files:
        complete = True
        for path, kind, key in ((image, MISSING_IMAGE, 'img_suffix'), (label, MISSING_LABEL, 'seg_map_suffix')):
            if path is not None and not folders.has(path):
                complete = False  # without its image, nobody misses a label map
                found = folders.instead(path)
                tally.add(_named(kind, path, found, getattr(dataset, key, None), key), _place(path, found))
                break
        if complete:
            there.append((image, label))
    return there


def _place(path: str, found: str) -> str:
    return f'{path} (there is {found})' if found else path


def _named(kind: Kind, path: str, found: str, suffix: str | None, key: str) -> Kind:
    """The kind of fault: a file that is missing, has another suffix, or a name in other case."""
    what = kind.what.removesuffix(' that are missing')
    if not found:
        return kind
    if found.lower() == os.path.basename(path).lower():
        return Kind(kind.severity, f'{what} whose names differ in case', 'give both files of a pair the same name.')
    stem = os.path.basename(path).removesuffix(suffix or '')
    actual = found[len(stem) :] if found.lower().startswith(stem.lower()) else Path(found).suffix
    return Kind(kind.severity, f'{what} with another suffix', f'set {key}={actual!r} in the data set.')


def check_listing(dataset: object, folders_of: dict[str, str], count: int, tally: Tally) -> None:
    """Find folders without a single image of the suffix, and images that are left out because of it.

    Args:
        dataset: One of mmseg's, that lists a folder.
        folders_of: Suffix key (``'img_suffix'``) to the folder that is listed.
        count: Images that the data set found.
        tally: Takes the faults.
    """
    for key, folder in folders_of.items():
        suffix = getattr(dataset, key, None)
        if suffix is None or '://' in folder:
            continue
        if not os.path.isdir(folder):
            tally.add(Kind(Severity.ERROR, 'folders that do not exist', 'correct data_root or data_prefix.'), folder)
            continue
        found: Counter = Counter()
        for _, _, names in os.walk(folder):
            found.update(Path(name).suffix for name in names if not name.endswith(suffix))
        others = {end: number for end, number in found.items() if end.lower() in IMAGES}
        listed = ', '.join(f'{number} {end}' for end, number in sorted(others.items(), key=lambda item: -item[1]))
        if count == 0 and others:
            most = max(others, key=others.get)
            kind = Kind(Severity.ERROR, f'folders without {suffix} files', f'set {key}={most!r} in the data set.')
            tally.add(kind, f'{folder}: {listed}')
        elif count == 0:
            tally.add(Kind(Severity.ERROR, 'empty folders', 'correct data_root or data_prefix.'), folder)
        elif others:
            kind = Kind(
                Severity.WARNING,
                f'images left out because their names do not end in {suffix}',
                f'convert or rename them, or make a second data set of them with its own {key}.',
            )
            tally.add(kind, f'{folder}: {listed}', sum(others.values()))
