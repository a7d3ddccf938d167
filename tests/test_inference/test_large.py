"""Large images in bands: the same bytes whatever interrupts a run and whoever shares it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.infer import BaseInferencer
from small_segmentor import ROOT, load, write_segmentor

from mmvim.commands.demo import main
from mmvim.inference import processes, segment_large, slide
from mmvim.inference.grid import Grid
from mmvim.inference.processes import my_share, runs, together
from mmvim.inference.rows import ArrayRows
from mmvim.inference.shares import Shares
from mmvim.inference.slide import label_bands, weight_of

WINDOWS = (64, 64), (25, 42)  # three rows of windows overlap


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and an image."""
    folder = tmp_path_factory.mktemp('model')
    write_segmentor(folder)
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3))
    np.save(folder / 'x.npy', np.kron(noise, np.ones((10, 10, 1))).astype(np.uint8))
    return folder


@pytest.fixture(scope='module')
def inferencer(folder: Path) -> BaseInferencer:
    return load(folder / 'segmentor.py')


@pytest.fixture(scope='module')
def expected(folder: Path, inferencer: BaseInferencer, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The files of a run that nothing interrupts."""
    out = tmp_path_factory.mktemp('expected') / 'x'
    return [path.read_bytes() for path in segment_large(inferencer, folder / 'x.npy', out, *WINDOWS)]


@pytest.mark.parametrize('blend', ['mean', 'gaussian'])
def test_a_band_by_itself_is_that_of_the_whole(blend: str, folder: Path, inferencer: BaseInferencer) -> None:
    rows = ArrayRows(np.load(folder / 'x.npy'), 'x')
    grid = Grid.over(rows.height, rows.width, *WINDOWS)
    whole = list(label_bands(inferencer.model, rows, grid, blend=blend))
    assert [band.top for band in whole] == list(grid.tops)
    assert len(np.unique(np.concatenate([band.labels for band in whole]))) > 2
    for band in whole:
        (alone,) = label_bands(inferencer.model, rows, grid, (band.index, band.index + 1), blend=blend)
        np.testing.assert_array_equal(alone.labels, band.labels)
        np.testing.assert_array_equal(alone.pixels, band.pixels)


def test_gaussian_weights(folder: Path, inferencer: BaseInferencer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an eighth of the window, as a sum over all windows written down plainly has it."""
    weight = weight_of('gaussian', 64, 33)
    assert weight[31, 16] == pytest.approx(weight.max()) and weight[0, 0] > 0
    assert weight[31, 16] / weight[31 - 8, 16] == pytest.approx(np.exp(0.5 * (8.5**2 - 0.5**2) / 8**2), rel=1e-5)
    rows = ArrayRows(np.load(folder / 'x.npy'), 'x')
    grid = Grid.over(rows.height, rows.width, *WINDOWS)
    sums = torch.zeros(12, rows.height, rows.width)
    total = torch.zeros(rows.height, rows.width)
    pixels = rows.read(0, rows.height)
    weight = weight_of('gaussian', 64, 64)
    with torch.no_grad():
        for top in grid.tops:
            for left in grid.lefts:
                logits = slide.window_logits(inferencer.model, [pixels[top : top + 64, left : left + 64]])[0]
                sums[:, top : top + 64, left : left + 64] += logits * weight
                total[top : top + 64, left : left + 64] += weight
    plain = (sums / total).argmax(0).numpy()
    labels, alike = (
        np.concatenate([band.labels for band in label_bands(inferencer.model, rows, grid, blend=blend)])
        for blend in ('gaussian', 'mean')
    )
    assert (labels == plain).mean() > 0.999  # a tie may fall either way
    assert (labels != alike).any()


def interrupted(inferencer: BaseInferencer, source: Path, out: Path, after: int, **more: object) -> str:
    """Stop a run after so many windows; what it says at the end."""
    notes: list[str] = []
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_large(inferencer, source, out, *WINDOWS, advance=advance, note=notes.append, **more)
    return notes[-1] if notes else ''


def test_interrupted_three_times(
    folder: Path, inferencer: BaseInferencer, expected: list[bytes], tmp_path: Path
) -> None:
    source, out = folder / 'x.npy', tmp_path / 'x'
    assert 'x_labels.parts keeps 2 of 9 rows of windows: --resume goes on' in interrupted(inferencer, source, out, 15)
    assert 'keeps 3 of 9' in interrupted(inferencer, source, out, 18, resume=True)
    assert 'keeps 5 of 9' in interrupted(inferencer, source, out, 22, resume=True)
    (tmp_path / 'x_labels.parts' / '000002.npz').unlink()  # and one is lost
    counts: list[int] = []
    written = segment_large(inferencer, source, out, *WINDOWS, 4, counts.append, resume=True)
    assert [path.read_bytes() for path in written] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.png', 'x_labels.tif']
    assert counts == [(3 + 6) * 5]  # the row that was lost, four more, and those above them again


def test_nothing_is_kept_of_nothing(folder: Path, inferencer: BaseInferencer, tmp_path: Path) -> None:
    assert interrupted(inferencer, folder / 'x.npy', tmp_path / 'x', 1) == ''
    assert not list(tmp_path.iterdir())


def test_an_earlier_run_is_not_lost(folder: Path, inferencer: BaseInferencer, tmp_path: Path) -> None:
    """Neither by a command without --resume nor by one that means something else."""
    source, out = folder / 'x.npy', tmp_path / 'x'
    interrupted(inferencer, source, out, 15)
    with pytest.raises(FileExistsError, match=r'keeps 2 of 9 rows of windows of an earlier run: go on with --resume'):
        segment_large(inferencer, source, out, *WINDOWS)
    for resume in (True, False):
        with pytest.raises(ValueError, match=r'of a run with another batch, another blend: give the same as then'):
            segment_large(inferencer, source, out, *WINDOWS, 2, blend='gaussian', resume=resume)
    other = load(folder / 'segmentor.py')
    torch.nn.init.ones_(other.model.decode_head.conv_seg.bias)
    with pytest.raises(ValueError, match='another weights'):
        segment_large(other, source, out, *WINDOWS, resume=True)
    path = tmp_path / 'x_labels.parts' / '000001.npz'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r'000001\.npz was damaged and is deleted: run again with --resume'):
        segment_large(inferencer, source, out, *WINDOWS, resume=True)
    assert segment_large(inferencer, source, out, *WINDOWS, resume=True)


def test_two_processes_go_on_with_what_one_began(
    folder: Path, inferencer: BaseInferencer, expected: list[bytes], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """By the command, after an interruption."""
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
        ROOT / 'tools' / 'demo.py', folder / 'x.npy', folder / 'segmentor.py', folder / 'segmentor.pth',
        '--window', '64', '--stride', '25x42', '--out', tmp_path,
        '--launcher', 'pytorch', '--device', 'cpu', '--resume',
    ]  # fmt: skip
    interrupted(inferencer, folder / 'x.npy', tmp_path / 'x', 15)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    result = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('1 of 1 inputs done') == 1  # the first one talks
    assert 'x.npy: ' in result.stdout and ' s: reading ' in result.stdout
    threads = torch.get_num_threads()
    assert (tmp_path / 'x_labels.tif').read_bytes() == expected[0] or threads > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.png', 'x_labels.tif']


def test_shares_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is done once, by neighbours, and the costs are about equal."""
    wanted, cost = [0, 1, 2, 5, 6, 7, 8, 9], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    monkeypatch.setattr(processes, 'get_world_size', lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(processes, 'get_rank', lambda rank=rank: rank)
        shares.append(my_share(wanted, cost))
    assert shares == [[0, 1, 2, 5], [6, 7, 8, 9]]
    assert list(runs(shares[0])) == [(0, 3), (5, 6)]
    assert list(runs([])) == [] and my_share([], []) == []
    assert my_share([1, 2], [0.0, 0.0]) == [] and my_share([1, 2], [1.0, 1.0]) == [2]  # as the second one


def test_an_error_of_one_is_an_error_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), together():
        _ = 1 / 0
    monkeypatch.setattr(processes, 'all_gather_object', lambda mine: [mine, 'the disk is full'])
    with pytest.raises(RuntimeError, match='process 1 says: the disk is full'), together():
        pass


def test_where_the_time_went() -> None:
    shares = Shares()
    with shares.of('reading'):
        pass
    shares.seconds['model'] = 0.0
    assert str(shares).startswith('0 s: reading ') and ' %, model 0 %, other ' in str(shares)


@pytest.mark.parametrize(
    'words', ['--bands 4,0,2', '--bands red', '--scale 1', '--scale 5,1', '--scale 0,inf', '--level -1', '--mpp 0']
)
def test_options_that_are_none(words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(['x.tif', 'model', *words.split()])
    assert caught.value.code == 2
    assert f'argument {words.split()[0]}: ' in capsys.readouterr().err


def test_options_that_exclude_each_other(folder: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(['x.svs', 'model', '--level', '1', '--mpp', '0.5'])
    assert 'not allowed with argument --level' in capsys.readouterr().err
    with pytest.raises(RuntimeError, match='--launcher pytorch works in processes that are started by torchrun'):
        main([str(folder / 'x.npy'), str(folder / 'segmentor.py'), '--launcher', 'pytorch'])


def test_bands_and_scale_by_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """They make any image one that is segmented by windows."""
    np.save(tmp_path / 'deep.npy', np.random.default_rng(0).random((70, 90, 5)))
    words = [str(tmp_path / 'deep.npy'), str(folder / 'segmentor.py'), str(folder / 'segmentor.pth')]
    assert (
        main([*words, '--bands', '5,3,1', '--scale', '0,1', '--blend', 'gaussian', '--out', str(tmp_path / 'out')]) == 0
    )
    assert sorted(os.listdir(tmp_path / 'out')) == ['deep.png', 'deep_labels.tif']
    assert 'deep.npy: 0 s: reading ' in capsys.readouterr().out
