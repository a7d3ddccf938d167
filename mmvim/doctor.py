"""``python -m mmvim.doctor``: what this machine has of what mmvim uses, and what to type where something is missing.

Nothing that is missing or broken ends the examination: every check that raises becomes a line with its error. Run as
``python mmvim/doctor.py`` it needs not even ``import mmvim`` to work.
"""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

GOOD, OPTIONAL, BAD = 'ok', 'optional', 'missing'
OLDEST_TORCH = (2, 4)
# Import name -> the distributions it comes in, and the versions that are tested or known to work.
STACK = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}
ONE_FLAVOUR = f'pip uninstall -y {" ".join(name for pair in STACK.values() for name in pair)}; make test'


class Line(NamedTuple):
    """One finding.

    Attributes:
        subject: What was looked at.
        status: ``GOOD``; ``OPTIONAL``, something works less well or not at all without it; ``BAD``, nothing trains.
        found: What is there.
        remedy: What to type or do; empty where nothing is to be done.
    """

    subject: str
    status: str
    found: str
    remedy: str = ''


def check_python() -> Iterator[Line]:
    """The Python that runs this."""
    good = (3, 10) <= sys.version_info[:2] < (3, 14)
    found = f'{platform.python_version()}, {sys.executable}'
    yield Line('Python', GOOD, found) if good else Line('Python', BAD, found, 'use Python 3.10 to 3.13 (tested: 3.11)')


def check_torch() -> Iterator[Line]:
    """PyTorch and the devices that it sees."""
    if find_spec('torch') is None:
        yield Line('torch', BAD, 'not installed', 'make demo, or pip install torch==2.13.0')
        return
    import torch

    version = str(torch.__version__)
    good = tuple(map(int, version.split('.')[:2])) >= OLDEST_TORCH
    found = f'{version}, {torch.get_num_threads()} threads on {os.cpu_count()} cores'
    yield Line('torch', GOOD, found) if good else Line('torch', BAD, f'{version}, too old', "pip install 'torch>=2.10'")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield Line('GPU', GOOD, f'{index}: {device.name}, {device.total_memory / 2**30:.0f} GiB')
    elif shutil.which('nvidia-smi') and torch.version.cuda is None:
        yield Line('GPU', OPTIONAL, 'there is one, torch is built for the CPU', 'install a CUDA build of torch')
    else:
        yield Line('GPU', GOOD, 'none; everything runs on the CPU')


def check_stack() -> Iterator[Line]:
    """OpenMMLab: which line of packages, which versions, whether they import."""
    owners = packages_distributions()
    flavours = set()
    for module, (onedl, upstream) in STACK.items():
        distributions = set(owners.get(module, ()))
        essential = module in ('mmengine', 'mmcv')
        if find_spec(module) is None:
            extra = {'mmdet': 'det', 'mmseg': 'seg'}.get(module, 'onedl')
            purpose = {'mmdet': ', needed for detection', 'mmseg': ', needed for segmentation'}.get(module, '')
            status = BAD if essential else OPTIONAL
            yield Line(module, status, f'not installed{purpose}', f"pip install -c constraints.txt -e '.[{extra}]'")
            continue
        if {onedl, upstream} <= distributions:
            yield Line(module, BAD, f'{onedl} and {upstream} overwrite each other', ONE_FLAVOUR)
            continue
        flavour = 'OneDL' if onedl in distributions else 'OpenMMLab'
        flavours.add(flavour)
        try:
            version = importlib.import_module(module).__version__
        except Exception as error:
            yield Line(module, BAD, f'{flavour}, does not import: {summary(error)}', 'see docs/troubleshooting.md')
        else:
            yield Line(module, GOOD, f'{version} ({flavour})')
    if flavours == {'OneDL'}:
        yield Line('stack', GOOD, 'tier 1: the OneDL packages, which the tests run with')
    elif flavours == {'OpenMMLab'}:
        yield Line('stack', GOOD, 'tier 2: the original packages, which are not tested (torch 2.5 or older advised)')
    elif flavours:
        yield Line('stack', BAD, 'OneDL and original packages are mixed', ONE_FLAVOUR)
    if find_spec('mmseg') is None and find_spec('mmdet') is None:
        yield Line('tasks', BAD, 'neither mmseg nor mmdet: no model can be trained', 'make demo')


def check_mmcv_ops() -> Iterator[Line]:
    """The compiled operators of mmcv, which two-stage detectors need."""
    if find_spec('mmcv') is None:
        return
    if find_spec('mmcv._ext') is None:
        yield Line('mmcv ops', OPTIONAL, 'not compiled; Mask R-CNN needs them, UPerNet does not', 'make ops')
        return
    try:
        importlib.import_module('mmcv.ops')
    except Exception as error:
        yield Line('mmcv ops', OPTIONAL, f'compiled for another torch? {summary(error)}', 'make ops')
    else:
        yield Line('mmcv ops', GOOD, 'compiled')


def check_kernels() -> Iterator[Line]:
    """What the scans run on."""
    if find_spec('torch') is None:
        return
    backends = importlib.import_module('mmvim.ops.backends')
    for row in backends.report():
        status = GOOD if row.available or not row.remedy else OPTIONAL
        absent = '' if row.available else 'not available: '
        yield Line(f'scan: {row.name}', status, f'{absent}{row.reason}', row.remedy)


def check_compiler() -> Iterator[Line]:
    """The C++ compiler that would build kernels."""
    command = os.environ.get('CXX') or next(filter(None, map(shutil.which, ('c++', 'g++', 'clang++'))), None)
    if command is None:
        yield Line('C++ compiler', OPTIONAL, 'none; the C++ kernels and mmcv ops need one', 'apt-get install g++')
        return
    answer = subprocess.run([*command.split(), '--version'], capture_output=True, text=True, timeout=20)
    if answer.returncode:
        yield Line('C++ compiler', OPTIONAL, f'{command} does not work', 'set CXX to a C++ compiler')
    else:
        yield Line('C++ compiler', GOOD, f'{command}: {answer.stdout.splitlines()[0]}')


def check_data() -> Iterator[Line]:
    """The data sets, where the configs expect them: below the current folder."""
    ade = Path('data/ade/ADEChallengeData2016')
    coco = Path('data/coco')
    for name, folder, images, annotations, command in (
        ('ADE20K', ade, 'images/training', 'annotations/training', 'ade20k --out data/ade'),
        ('COCO 2017', coco, 'train2017', 'annotations/instances_train2017.json', 'coco --out data/coco'),
    ):
        remedy = f'put the data set into {folder}, or draw a miniature one: python tools/make_miniature.py {command}'
        if not (folder / images).is_dir() or not (folder / annotations).exists():
            yield Line(name, OPTIONAL, f'not in {folder}', remedy)
            continue
        count = sum(1 for _ in os.scandir(folder / images))
        drawn = any((place / 'miniature.json').exists() for place in (folder, folder.parent))
        yield Line(name, GOOD, f'{count} training images in {folder}{", a miniature one" if drawn else ""}')


def check_weights() -> Iterator[Line]:
    """The official weights, where the configs expect them."""
    official = importlib.import_module('mmvim.catalogue').OFFICIAL_WEIGHTS
    present = [name for name in official if Path('weights', name).is_file()]
    for name in present:
        yield Line('weights', GOOD, f'weights/{name}, {Path("weights", name).stat().st_size / 2**20:.0f} MiB')
    absent = [name for name in official if name not in present]
    if absent:
        found = f'{len(absent)} of {len(official)} official files are not in weights/'
        files: dict[str, list[str]] = {}
        for name in absent:
            files.setdefault(official[name], []).append(name)
        example = f'{absent[0]} from {official[absent[0]]}; the tables in configs/*/README.md have all'
        yield Line('weights', OPTIONAL, found, f'download those that you train from into weights/, such as {example}')


CHECKS: tuple[Callable[[], Iterator[Line]], ...] = (
    check_python,
    check_torch,
    check_stack,
    check_mmcv_ops,
    check_kernels,
    check_compiler,
    check_data,
    check_weights,
)


def summary(error: Exception) -> str:
    """An exception in one short line."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:160]}' if lines else type(error).__name__


def examine() -> list[Line]:
    """All findings; a check that raises is a finding too."""
    lines = []
    for check in CHECKS:
        try:
            lines.extend(check())
        except Exception as error:
            subject = check.__name__.removeprefix('check_').replace('_', ' ')
            lines.append(Line(subject, BAD, summary(error), 'see docs/troubleshooting.md'))
    return lines


def show(lines: list[Line]) -> None:
    """Print the findings, then what to type; the commands are outside the table so that they can be copied."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for line in lines:
            print(f'{line.status:<9} {line.subject:<13} {line.found}')
    else:
        console = Console()
        table = Table('', '', 'found', title='mmvim doctor', title_justify='left', show_edge=False)
        colours = {GOOD: 'green', OPTIONAL: 'yellow', BAD: 'red'}
        for line in lines:
            table.add_row(f'[{colours[line.status]}]{line.status}[/]', line.subject, line.found.replace('[', r'\['))
        console.print(table)
    remedies = dict.fromkeys((line.subject, line.remedy) for line in lines if line.status != GOOD and line.remedy)
    if remedies:
        print('\nWhat to type, from the checkout:')
        for subject, remedy in remedies:
            print(f'  {subject}: {remedy}')


def main() -> int:
    """Examine, print, and tell by the exit code whether something essential is missing."""
    lines = examine()
    show(lines)
    return int(any(line.status == BAD for line in lines))


if __name__ == '__main__':
    # As a script its folder is on the path, where ops, models and datasets would hide packages of these names.
    if __package__ in (None, ''):
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.exit(main())
