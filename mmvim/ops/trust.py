"""Whether ``auto`` takes compiled kernels on a card: they are tested where a process first meets one, once per card.

The verdict is kept in a file below the user's cache, one for each library of kernels, card, driver and torch, so that
later processes only read it. Where a test would do harm, or say nothing, there is none: while a CUDA graph is captured,
while torch.compile, torch.export or torch.jit trace, under a transform of torch.func, and in a forked process. There
too a file counts; without one mmvim's kernels are taken with a warning that they are untested, those of other packages
are not taken, and the next ordinary call makes up for it.
"""

import json
import os
import threading
import warnings
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch

from mmvim.files import replacing
from mmvim.paths import user_cache

from . import mamba_backend, self_test
from .backends import IMPORTED_BY, PACKAGE

LIBRARY = PACKAGE / '_C_cuda.abi3.so'
NAMES = {'mmvim': "mmvim's CUDA kernels", 'mamba_ssm': 'the kernels of mamba-ssm', 'causal_conv1d': 'causal-conv1d'}
_KNOWN: dict[tuple[str, int | None], 'Verdict'] = {}
_WARNED: dict[tuple[str, str, int | None], object] = {}
_LOCK = threading.Lock()


class Verdict(NamedTuple):
    """What is known of kernels on a card.

    Attributes:
        problem: What is wrong with them; empty if nothing is; ``None`` if they were not tested.
        note: Where the verdict is kept, or why they were not tested.
    """

    problem: str | None
    note: str


def passes(kernels: str, device: torch.device) -> bool:
    """Whether ``auto`` takes kernels for tensors on a device; not those of a package that is missing.

    Args:
        kernels: ``'mmvim'``, ``'mamba_ssm'`` (scans) or ``'causal_conv1d'``.
        device: A CUDA device with its index.
    """
    return _assumed(kernels, device) if torch.compiler.is_compiling() else _passes(kernels, device)


def _passes(kernels: str, device: torch.device) -> bool:
    known = _KNOWN.get((kernels, device.index))
    if known is None:
        if (kernels == 'mamba_ssm' and mamba_backend.find_scan().reason) or (
            kernels == 'causal_conv1d' and mamba_backend.find_conv().reason
        ):
            return False
        known = verdict(kernels, device)
    return known.problem == '' or (known.problem is None and kernels == 'mmvim')


@torch.compiler.assume_constant_result
def _assumed(kernels: str, device: torch.device) -> bool:
    """A tracer cannot follow the questions; what it meets is a constant."""
    return _passes(kernels, device)


def verdict(kernels: str, device: torch.device) -> Verdict:
    """Look it up, or test. The first time in a process that kernels fail, or are not tested, it warns."""
    if not _is_here():  # the tensors have no memory, and are for a card elsewhere
        return Verdict(None, 'no GPU is visible')
    if device.index is None:
        device = torch.device('cuda', torch.cuda.current_device())
    key = (kernels, device.index)
    if key in _KNOWN:
        return _KNOWN[key]
    hindrance = _hindrance()
    try:
        about = _about(kernels, device)
        path = _path(about)
    except OSError:  # what the verdict would hold for cannot be read any more
        about, path = {}, None
    found = _read(path, about)
    if found is None and hindrance:
        return _untested(kernels, device, hindrance)
    if found is None:
        with _LOCK:
            if key in _KNOWN:  # another thread was first
                return _KNOWN[key]
            found = _test(kernels, device, path, about)
            if found.problem is None:
                return _untested(kernels, device, found.note)
            _KNOWN[key] = found
    _KNOWN[key] = found
    if found.problem:
        _warn(kernels, device, found)
    return found


def _is_here() -> bool:
    return torch.cuda.is_available()


def _hindrance() -> str:
    """Why nothing can be tested now; empty if it can."""
    if os.getpid() != IMPORTED_BY:
        return 'this process was forked'
    if torch.compiler.is_compiling():
        return 'torch.compile or torch.export traces'
    if torch.jit.is_tracing():
        return 'torch.jit traces'
    if torch._C._are_functorch_transforms_active():
        return 'a transform of torch.func is at work'
    if torch.cuda.is_current_stream_capturing():
        return 'a CUDA graph is captured'
    return ''


def _test(kernels: str, device: torch.device, path: Path | None, about: dict[str, str]) -> Verdict:
    torch.cuda.synchronize(device)  # an error of earlier work is not one of the kernels
    try:
        problem = self_test.examine(kernels, device)
        torch.cuda.synchronize(device)
    except self_test.Unable as error:
        return Verdict(None, str(error))
    except (torch.OutOfMemoryError, MemoryError) as error:
        return Verdict(None, self_test.first_line(error))
    except Exception as error:  # of a kernel, or of a package that is not what it says
        if 'out of memory' in str(error):
            return Verdict(None, self_test.first_line(error))
        problem = self_test.first_line(error)
        try:
            torch.cuda.synchronize(device)
        except Exception:  # PyTorch cannot take their place either
            problem += '; the card takes nothing more from this process, start it again'
    return Verdict(problem, _keep(path, about, problem))


def _about(kernels: str, device: torch.device) -> dict[str, str]:
    """What a verdict holds for."""
    return {
        'kernels': _fingerprint(kernels),
        **_card(device),
        'torch': f'{torch.__version__}, CUDA {torch.version.cuda}',
    }


def _fingerprint(kernels: str) -> str:
    test = sha256(Path(__file__).with_name('self_test.py').read_bytes())
    if kernels == 'mmvim':
        test.update(LIBRARY.read_bytes())
    name = {'mmvim': LIBRARY.name, 'mamba_ssm': mamba_backend.find_scan().name}
    return f'{name.get(kernels) or mamba_backend.find_conv().name}, {test.hexdigest()}'


def _card(device: torch.device) -> dict[str, str]:
    card = torch.cuda.get_device_properties(device)
    try:
        driver = Path('/proc/driver/nvidia/version').read_text().splitlines()[0]
    except (OSError, IndexError):
        driver = f'for CUDA {torch._C._cuda_getDriverVersion()}'
    return {
        'card': f'{card.name}, {card.major}.{card.minor}, {card.multi_processor_count} multiprocessors',
        'driver': driver,
    }


def _path(about: dict[str, str]) -> Path | None:
    """The file of a verdict; none where the user has no home."""
    folder = user_cache()
    return folder and folder / 'self_test' / f'{sha256(repr(sorted(about.items())).encode()).hexdigest()[:32]}.json'


def _read(path: Path | None, about: dict[str, str]) -> Verdict | None:
    """A verdict that was kept; none where the file is missing, damaged or about something else."""
    try:
        kept = json.loads(path.read_text()) if path else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(kept, dict) or kept.get('about') != about or not isinstance(kept.get('problem'), str):
        return None
    return Verdict(kept['problem'], f'kept in {path}')


def _keep(path: Path | None, about: dict[str, str], problem: str) -> str:
    """Write a verdict; says where it is, or why not. Several processes may do so at once: each file is whole."""
    if path is None:
        return 'not kept: there is no home for a cache'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, shared=True) as draft:
            draft.write_text(json.dumps({'about': about, 'problem': problem}, indent=1) + '\n')
    except OSError as error:
        return f'not kept: {path} cannot be written ({error.strerror})'
    return f'kept in {path}'


def _warn(kernels: str, device: torch.device, found: Verdict) -> None:
    if not _is_first('failed', kernels, device):
        return
    insist = ' MMVIM_BACKEND=cuda insists on them.' if kernels == 'mmvim' else ''
    warnings.warn(
        f'{NAMES[kernels]} failed their self-test on {_card(device)["card"]}: {found.problem}. Other code takes their '
        f'place, which may be slower.{insist} Please report this text to the authors, with what '
        f'`python -m mmvim.doctor` prints. The verdict is {found.note}; without that file they are tested again.',
        RuntimeWarning,
        stacklevel=2,
    )


def _is_first(what: str, kernels: str, device: torch.device) -> bool:
    """Whether nobody in this process has said it yet; of several threads one is the first."""
    mine = object()
    return _WARNED.setdefault((what, kernels, device.index), mine) is mine


def _untested(kernels: str, device: torch.device, why: str) -> Verdict:
    if kernels == 'mmvim' and _is_first('untested', kernels, device):
        warnings.warn(
            f'{NAMES[kernels]} are taken on {device} without their self-test ({why}); `python -m mmvim.ops`, typed '
            'once on this machine, tests them and keeps the verdict',
            RuntimeWarning,
            stacklevel=2,
        )
    return Verdict(None, why)
