"""What to look at, and where the pictures of it go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmvim.errors import UserFileNotFoundError, UserValueError

from .images import IMAGES
from .reading import MAPS, SLIDES

VIDEOS = ('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm', '.mpg', '.mpeg')


@dataclass(frozen=True)
class Inputs:
    """Files to look at.

    Attributes:
        files: images and videos.
        skipped: number of other files and of folders beside them.
    """

    files: list[Path]
    skipped: int = 0


def find_inputs(source: str | Path) -> Inputs:
    """The images and videos of a folder (not of folders in it), or the one file.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: if there is no image and no video.
    """
    path = Path(source)
    known = (*IMAGES, *MAPS, *SLIDES, *VIDEOS)
    if path.is_dir():
        inside = sorted(path.iterdir())
        files = [file for file in inside if file.is_file() and file.suffix.lower() in known]
        if not files:
            raise UserValueError(
                f'the folder {path} has no image and no video: expected files that end in {_list(known)}'
            )
        return Inputs(files, len(inside) - len(files))
    if not path.exists():
        raise UserFileNotFoundError(f'there is no {path} (looked from {Path.cwd()})')
    if path.suffix.lower() not in known:
        raise UserValueError(f'{path} is taken for neither an image nor a video: its name should end in {_list(known)}')
    return Inputs([path])


def is_video(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in VIDEOS


def output_stems(files: list[Path]) -> dict[Path, str]:
    """A name for the outputs of each file, without ending: its own, longer where two would be the same.

    ``a.jpg`` and ``b.jpg`` give ``a`` and ``b``, ``a.jpg`` and ``a.png`` give ``a_jpg`` and ``a_png``.
    """
    stems = [file.stem for file in files]
    names: dict[Path, str] = {}
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else f'{file.stem}_{file.suffix[1:]}'
        while name in names.values():
            name += '_'
        names[file] = name
    return names


def check_out(out: Path, files: list[Path]) -> None:
    """See that outputs cannot replace inputs.

    Raises:
        ValueError: if the folder for outputs is that of the inputs, or no folder.
    """
    if out.exists() and not out.is_dir():
        raise UserValueError(f'--out {out} is a file: name a folder')
    if any(file.resolve().parent == out.resolve() for file in files):
        raise UserValueError(f'--out {out} is the folder of the inputs: name another, so that none of them is replaced')


def _list(endings: tuple[str, ...]) -> str:
    return f'{", ".join(endings[:-1])} or {endings[-1]}'
