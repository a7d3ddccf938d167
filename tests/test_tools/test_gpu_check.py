"""The scripts for a machine with a GPU, as far as a machine without one can tell: logic, numbers, and honest names."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mmvim.ops import walks

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / 'benchmarks' / 'gpu'


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Import a script of benchmarks/gpu, where they import each other by bare names."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(GPU))
    yield import_module
    for name in set(sys.modules) - before:
        if str(GPU) in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


def run(*arguments: str, out: Path, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, 'OUT': str(out), 'PYTHON': sys.executable, **environment}
    return subprocess.run(['tools/gpu_check.sh', *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope='session')
def bare_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Torch with what pip installs for it and numpy, and nothing else that is installed here."""
    site = tmp_path_factory.mktemp('site')
    installed = Path(torch.__file__).parents[1]
    for name in ['numpy', 'torch', *_required('torch')]:
        for top in {file.parts[0] for file in distribution(name).files} - {'..', '__pycache__'}:
            if not (site / top).exists():
                (site / top).symlink_to(installed / top)
    return site


def _required(name: str) -> set[str]:
    """Names of the distributions here that a distribution needs, and those need."""
    found = set()
    for line in requires(name) or ():
        other = re.match(r'[\w.-]+', line)[0]
        if 'extra ==' not in line and other not in found and _is_installed(other):
            found |= {other} | _required(other)
    return found


def _is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:  # for another system or version of Python
        return False


def test_backbones_run_without_openmmlab(bare_site: Path, tmp_path: Path) -> None:
    """A dry run of the bench with torch alone; its files and titles say what they are."""
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    options = {'PYTHON': str(python), 'PYTHONPATH': str(bare_site)}
    for name in ('mmengine', 'rich', 'yaml'):
        missing = subprocess.run(
            [str(python), '-c', f'import {name}'], env={**os.environ, **options}, capture_output=True, text=True
        )
        assert f"No module named '{name}'" in missing.stderr
    result = run('bench', '--device', 'cpu', '--only', 'backbones', out=tmp_path, **options)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / 'dry_run_bench.md').read_text()
    assert text.startswith('# DRY RUN ON A CPU')
    assert not list(tmp_path.glob('bench*'))
    rows = json.loads((tmp_path / 'dry_run_bench.json').read_text())['tables']
    measured = {row['model'] for row in rows['backbones'] if 'eager, ms' in row}
    assert {'Vim-tiny', 'VMamba, 32 channels', 'Swin, 32 channels', 'DeiT, 192 channels, naive'} <= measured
    assert {'naive', 'fastest SDPA', 'peer'} == {row['against'].split(':')[0] for row in rows['ratios']}


@pytest.fixture(scope='session')
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what travels to a machine with a GPU, and nothing that was built or installed here."""
    folder = tmp_path_factory.mktemp('carried')
    for name in ('benchmarks', 'kernels', 'mmvim', 'tools'):
        ignored = shutil.ignore_patterns('*.so', '__pycache__', '.mim')
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


PHASES = {
    'build': ['build'],
    'check': ['check', '--quick', '--only', 'symmetries'],
    'sanitize': ['sanitize'],
    'bench': ['bench', '--only', 'scans'],
    'peers': ['peers', '--minutes', '1'],
}


@pytest.mark.parametrize('phase', PHASES)
def test_phases_run_from_what_is_carried(phase: str, carried: Path, bare_site: Path, tmp_path: Path) -> None:
    """On a bare machine without a network: torch and numpy, these four folders, and no git."""
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    out = tmp_path / 'out'
    environment = {**os.environ, 'OUT': str(out), 'PYTHON': str(python), 'PYTHONPATH': str(bare_site)}
    command = ['tools/gpu_check.sh', *PHASES[phase], '--device', 'cpu']
    result = subprocess.run(command, cwd=carried, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {file.name for file in out.iterdir()} == {f'dry_run_{phase}.md', f'dry_run_{phase}.json'}


def test_what_is_carried_is_small(carried: Path) -> None:
    """A fraction of 64 MiB, so that sources of peers have room."""
    assert sum(file.stat().st_size for file in carried.rglob('*') if file.is_file()) < 8 * 2**20


def test_minutes(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OUT', str(tmp_path))
    assert 0 < load('common').Report('check', 'cpu', 2).left() <= 90


def test_check_reports_parts(load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check = load('check')
    monkeypatch.setenv('OUT', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['check.py', '--device', 'cpu', '--quick', '--only', 'symmetries'])
    monkeypatch.setattr(check, 'in_child', lambda function, *arguments, timeout: function(*arguments))
    with pytest.raises(SystemExit) as stop:
        check.main()
    assert stop.value.code == 0
    parts = json.loads((tmp_path / 'dry_run_check.json').read_text())['tables']['parts']
    assert parts[0]['part'] == 'symmetries'
    assert parts[0]['cases'] == 2
    assert parts[0]['failed'] == 0
    assert 'need a GPU' in parts[1]['problem']


def test_no_phase_runs_without_a_gpu(load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(sys, 'argv', ['check.py'])
    with pytest.raises(SystemExit) as stop:
        load('check').main()
    assert stop.value.code == 2
    assert 'torch sees no GPU; --device cpu runs the logic' in capsys.readouterr().err


def test_usage(tmp_path: Path) -> None:
    result = run('everything', out=tmp_path)
    assert result.returncode == 2
    assert 'usage: tools/gpu_check.sh build | check | sanitize | bench | peers' in result.stderr


def test_wrong_results_are_found(load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that is off by a thousandth, and an element that nobody wrote."""
    compare = load('compare')
    options = {'walks': walks.bidirectional(33), 'channels': 8, 'd_state': 4, 'z': True}
    assert compare.check_scan('cpu', options)['ok']
    right = compare.evaluate

    def off(function, arguments, **rest) -> dict:
        results = right(function, arguments, **rest)
        if function is compare.scan:
            results['dB'] = results['dB'] * 1.001
        return results

    monkeypatch.setattr(compare, 'evaluate', off)
    row = compare.check_scan('cpu', options)
    assert not row['ok']
    assert row['worst'] == 'dB'

    def unwritten(function, arguments, **rest) -> dict:
        results = right(function, arguments, **rest)
        if function is compare.scan:
            results['y'][-1, -1, -1] = float('nan')
        return results

    monkeypatch.setattr(compare, 'evaluate', unwritten)
    row = compare.check_scan('cpu', options)
    assert not row['ok']
    assert row['worst'] == 'y'


@pytest.mark.parametrize('part', ['orders', 'options', 'values', 'strides', 'conv'])
def test_parts_run(load, part: str) -> None:
    """The first cases of each part pass on what is there."""
    parts = load('parts').PARTS
    rows = [row for row, _ in zip(parts[part]('cpu', True), range(4), strict=False)]
    assert len(rows) == 4
    assert all(row['ok'] for row in rows), rows


def test_crashes_are_reported(load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A part that ends its process is a failure, and the others go on."""
    check = load('check')
    monkeypatch.setenv('OUT', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['check.py', '--device', 'cpu', '--quick', '--only', 'symmetries', 'lengths'])

    def child(function, name: str, device: str, quick: bool, path: str, timeout: float) -> None:
        row = {'case': 'first', 'ok': True, 'worst': ''}
        Path(path).write_text(json.dumps(row) + '\n')
        if name == 'symmetries':
            raise MemoryError('the process ended')

    monkeypatch.setattr(check, 'in_child', child)
    with pytest.raises(SystemExit) as stop:
        check.main()
    assert stop.value.code == 1
    parts = json.loads((tmp_path / 'dry_run_check.json').read_text())['tables']['parts']
    assert [(row['cases'], row['problem']) for row in parts[:2]] == [(1, 'MemoryError: the process ended'), (1, '')]


def test_floor_of_a_scan(load) -> None:
    """Vim-S at 512 x 512, 8 images, in bf16: 52.2 MB and 239 million special functions."""
    floor, work = load('floor'), load('work')
    case = work.scan_arguments(work.vim('', 384, 8, 1025), 'cpu', torch.bfloat16)
    found = floor.scan_floor(case, floor.Ceilings(1.0, 1.0, ''))
    assert found.memory == pytest.approx(52.2e6, rel=2e-3)
    assert found.special == pytest.approx(239e6, rel=3e-3)
    both = floor.scan_floor(case, floor.Ceilings(1.0, 1.0, ''), backward=True)
    assert both.special == pytest.approx(239e6 + 2 * 6.3e6 * 21, rel=1e-2)
    assert floor.Floor(1.0, 2.0).share(4.0) == '50% (special functions)'


SASS = """
\t\tFunction : kernel
        /*0000*/                   LDG.E.U16 R2, [R4.64] ;  /* 0x0 */
                                                            /* 0x0 */
        /*0010*/              @!P0 BRA 0x30 ;               /* 0x0 */
        /*0020*/                   FFMA R1, R1, R1, R1 ;    /* 0x0 */
{loop}        /*1000*/              @P1 BRA 0x30 ;                /* 0x0 */
        /*1010*/                   EXIT ;                   /* 0x0 */
"""


def test_instructions_are_counted_in_basic_blocks(load) -> None:
    """Four exp2 in a loop of eleven instructions, jump included; before it a jump that leads there."""
    predict = load('predict')
    names = ['MUFU.EX2 R3, R2', 'FFMA R3, R3, R5, R6'] * 4 + ['LDS R7, [R8]', 'LDS R9, [R8+0x4]']
    loop = ''.join(
        f'        /*{0x30 + 16 * i:04x}*/                   {text} ;  /* 0x0 */\n' for i, text in enumerate(names)
    )
    code = predict.functions(SASS.format(loop=loop))['kernel']
    assert [len(block) for block in predict.blocks(code)] == [2, 1, 11, 1]
    assert predict.count(code, backward=False).recurrence == 11 / 4


def test_predictions(load) -> None:
    """Vim-Ti at 1248 x 1248, batch 8: special functions bound the forward pass, and rows are as many as shapes."""
    predict = load('predict')
    counts = {(what, states): predict.Counts(7.5, 20.0) for what in predict.KERNELS for states in (16, 1)}
    rows = list(predict.predictions(counts))
    assert len(rows) == 2 * len(predict.SHAPES)
    row = next(row for row in rows if row[0].startswith('Vim-Ti, 1248') and row[1] == 'forward')
    assert row[2:4] == ['53', '170']
    assert row[5:] == ['170 us, special functions', '']


SANITIZED = {
    'clean': (0, '========= COMPUTE-SANITIZER\n40 of 40\n========= ERROR SUMMARY: 0 errors\n'),
    'races': (
        1,
        '========= Error: Race reported between Write access at mmvim::cuda::scan\n'
        '========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n',
    ),
    'overrun': (
        1,
        '========= Invalid __global__ read of size 2 bytes\n=========     at mmvim::cuda::scan\n'
        '========= ERROR SUMMARY: 3 errors\n',
    ),
    'refused': (1, '========= Error: Device not supported. Please refer to the documentation\n'),
    'program': (1, 'a result is not finite\n========= ERROR SUMMARY: 0 errors\nit ended\n'),
}


@pytest.mark.parametrize(
    ('log', 'found', 'words'),
    [
        ('clean', 'clean', ''),
        ('races', 'errors', '2 errors, 1 lines name a kernel of mmvim'),
        ('overrun', 'errors', 'first: Invalid __global__ read'),
        ('refused', 'refused', 'Device not supported'),
        ('program', 'errors', 'exit code 1'),
    ],
)
def test_verdicts_of_the_sanitizer(load, log: str, found: str, words: str) -> None:
    verdict, details = load('sanitize').verdict(*SANITIZED[log])
    assert verdict == found
    assert words in details


def test_peers_are_trimmed_to_what_is_compared(load, tmp_path: Path) -> None:
    sources = load('peer_sources')
    folder = tmp_path / 'mamba_ssm-1' / 'csrc' / 'selective_scan'
    folder.mkdir(parents=True)
    (folder / 'selective_scan.h').touch()
    (folder / 'selective_scan.cpp').touch()
    line = 'template void scan_cuda<{}>(Params &params, cudaStream_t stream);\n'
    (folder / 'bf16.cu').write_text('#include "k.cuh"\n' + line.format('at::BFloat16, float')
                                    + line.format('at::BFloat16, complex_t'))  # fmt: skip
    (folder / 'fp32.cu').write_text(line.format('float, float'))
    out = tmp_path / 'out'
    out.mkdir()
    files = sources.trim(sorted(folder.glob('*.cu')), out)
    assert [file.name for file in files] == ['bf16.cu', 'stubs.cpp']
    assert 'complex_t' not in files[0].read_text()
    assert 'at::BFloat16, float' in files[0].read_text()
    stubs = files[1].read_text()
    assert 'template void scan_cuda<at::BFloat16, c10::complex<float>>(Params&, cudaStream_t);' in stubs
    assert 'template void scan_cuda<float, float>(Params&, cudaStream_t);' in stubs
    assert 'scan_cuda<at::BFloat16, float>' not in stubs
    with pytest.raises(sources.MissingPeers, match=r'there is no causal_conv1d.cpp .* pip download'):
        sources.find_sources(str(tmp_path), tmp_path)
    with pytest.raises(sources.MissingPeers, match='MMVIM_PEERS must name a folder'):
        sources.find_sources(None, tmp_path)


def test_official_compositions_compute_what_ours_does(load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Copies, flips and projections around an imitation of the peers' kernels; a wrong one is not timed."""
    peers: ModuleType = load('peers')
    rows = []

    class Rows:
        def add(self, table: str, **row: object) -> None:
            rows.append(row)

    for shape in load('work').QUICK:
        peers.bench(Rows(), shape, peers.Imitation(), 'cpu')
    assert len(rows) == 6
    assert all('times as fast, eager' in row for row in rows)

    class Wrong(peers.Imitation):
        def conv(self, x, weight, bias):
            return super().conv(x, weight.flip(-1), bias)

    with pytest.raises(ValueError, match='path: the results differ'):
        peers.bench(Rows(), load('work').QUICK[0], Wrong(), 'cpu')
    assert len(rows) == 6


def test_nothing_is_called_cuda_that_is_not(load, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU without the kernels, or with another backend asked for, nothing is checked or timed in their name."""
    common = load('common')
    monkeypatch.setattr(common, 'has_kernels', lambda device: False)
    with pytest.raises(SystemExit, match='there are no CUDA kernels .* first: tools/gpu_check.sh build'):
        common.need_kernels('cuda')
    monkeypatch.setenv('MMVIM_BACKEND', 'torch')
    with pytest.raises(SystemExit, match='MMVIM_BACKEND=torch: the CUDA kernels would not be taken'):
        common.need_kernels('cuda')
    common.need_kernels('cpu')
