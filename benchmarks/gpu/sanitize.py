"""Run small shapes under compute-sanitizer: memcheck, racecheck, initcheck, synccheck.

    python benchmarks/gpu/sanitize.py [--only memcheck ...]

A tool that refuses this machine is reported as such, and the others go on.
"""

import os
import re
import shutil
import subprocess
import sys

from common import HERE, Report, need_kernels, parse

TOOLS = ('memcheck', 'racecheck', 'synccheck', 'initcheck')
# Other people's kernels are left out where a tool looks at each kernel by itself. What memory is written is seen only
# when all kernels are watched.
OURS = ['--kernel-name', 'kernel_substring=mmvim']
_SUMMARY = re.compile(r'(?:ERROR|RACECHECK) SUMMARY: (\d+)')


def verdict(code: int, log: str) -> tuple[str, str]:
    """``'clean'``, ``'errors'`` or ``'refused'``, and why, from the exit code and output of compute-sanitizer."""
    summaries = _SUMMARY.findall(log)
    told = [line.strip('= ') for line in log.splitlines() if line.startswith('=========')]
    if not summaries or any('not supported' in line for line in told):
        reason = next((line for line in told if re.search('rror|upported', line)), '')
        return 'refused', reason or next(iter(log.strip().splitlines()[-1:]), f'exit code {code}')
    found = int(summaries[-1])
    if found:
        ours = sum('mmvim' in line for line in told)
        first = next((line for line in told if re.search('Invalid|Race|Uninitialized|Barrier|Error:', line)), '')
        return 'errors', f'{found} errors, {ours} lines name a kernel of mmvim; first: {first}'
    if code:
        return 'errors', f'the program under it ended with exit code {code}: {log.strip().splitlines()[-1]}'
    return 'clean', ''


def main() -> None:
    args = parse(__doc__)
    need_kernels(args.device)
    report = Report('sanitize', args.device, args.minutes)
    script = [sys.executable, str(HERE / 'small.py'), args.device]
    if args.device == 'cpu':
        code = subprocess.run(script).returncode
        report.add('sanitize', tool='none', verdict='not run: needs a GPU', details=f'small.py ended with {code}')
        sys.exit(code)
    if shutil.which('compute-sanitizer') is None:
        report.add('sanitize', tool='compute-sanitizer', verdict='refused', details='it is not on the PATH')
        sys.exit(1)
    # Without torch's cache each tensor is an allocation of its own, so that reading past its end shows.
    environment = {**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1', 'MMVIM_POISON': '0'}
    chosen = [tool for tool in TOOLS if tool in (args.only or TOOLS)]
    verdicts = []
    for index, tool in enumerate(chosen):
        limit = max(report.left() / (len(chosen) - index), 1)
        command = ['compute-sanitizer', '--tool', tool, '--print-limit', '20', *(OURS if tool != 'initcheck' else [])]
        try:
            done = subprocess.run(
                [*command, *script], env=environment, timeout=limit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True,
            )  # fmt: skip
            found, details = verdict(done.returncode, done.stdout)
            log = done.stdout
        except subprocess.TimeoutExpired as late:
            found, details = 'unfinished', f'after {limit:.0f} s'
            log = (late.stdout or b'').decode(errors='replace')
        (report.folder / f'{tool}.log').write_text(log)
        report.add('sanitize', tool=tool, verdict=found, details=details)
        verdicts.append(found)
    sys.exit(1 if 'errors' in verdicts else 0)


if __name__ == '__main__':
    main()
