"""One run of ``tools/test.py`` in a process of its own, which ends with the process that started it."""

import ctypes
import re
import signal
import subprocess
import sys
from pathlib import Path

from mmvim.errors import UserRuntimeError
from mmvim.paths import ROOT

_PR_SET_PDEATHSIG = 1
_FAULT = re.compile(r'(error: |(\w+\.)*\w*(Error|Exception|Interrupt)\b)')


def run_test(config: Path, weights: Path, folder: Path, *, tta: bool = False, amp: bool = False, gpus: int = 0) -> None:
    """Test a config with a file of weights.

    Args:
        config: The config.
        weights: The file.
        folder: Where the run writes; what it prints goes to ``log.txt`` there.
        tta: Whether with test-time augmentation.
        amp: Whether in mixed precision.
        gpus: Processes that torchrun starts; 0 for a single one without it.

    Raises:
        RuntimeError: If the test failed, with the last error that it printed.
    """
    launcher = [] if not gpus else ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
    command = [sys.executable, *launcher, str(ROOT / 'tools' / 'test.py'), str(config), str(weights)]
    command += ['--work-dir', str(folder), *(['--tta'] if tta else []), *(['--amp'] if amp else [])]
    command += ['--launcher', 'pytorch'] if gpus else []
    log = folder / 'log.txt'
    with log.open('w') as file:
        # Evaluations are long: one whose parent was killed must not go on beside the one that is started next.
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code < 0:
        raise UserRuntimeError(
            f'the test was ended by {signal.Signals(-code).name}, as when memory runs out; see {log}'
        )
    if code:
        raise UserRuntimeError(f'{_fault(log)}; see {log}')


def _end_with_parent() -> None:
    """Have Linux send SIGTERM to this process when its parent ends."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _fault(log: Path) -> str:
    """The last line that tells of an error, without the word that begins it."""
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines() if line.strip()]
    told = [line for line in lines if line.startswith('error: ')] or [line for line in lines if _FAULT.match(line)]
    return (told or lines or ['the test said nothing'])[-1].removeprefix('error: ')
