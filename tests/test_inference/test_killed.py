"""Runs over a large map that are killed, as by a system without memory left: the next one ends with the same bytes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch

from mmvim.inference import large
from mmvim.inference.large import segment_large
from mmvim.inference.parts import Parts

ROOT = Path(__file__).resolve().parents[2]


def test_killed_three_times(tmp_path: Path) -> None:
    """Between two rows of windows, in the middle of writing one, and between the label map and the picture."""
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}', 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, __file__, tmp_path]  # by itself: processes that have threads must not fork
    result = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=200)
    assert result.returncode == 0, result.stderr
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    for name in ('x_labels.tif', 'x.png'):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(os.listdir(killed)) == ['x.png', 'x_labels.tif']
    with rasterio.open(killed / 'x_labels.tif') as file:
        assert len(np.unique(file.read(1))) > 1


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def between() -> None:
    write = Parts.write

    def third(self: Parts, index: int, *arrays: np.ndarray) -> None:
        write(self, index, *arrays)
        if index == 2:
            die()

    Parts.write = third


def half_written() -> None:
    save = np.savez

    def half(path: Path, **arrays: np.ndarray) -> None:
        save(path, **arrays)
        if len(list(path.parent.glob('0*.npz'))) > 4:
            os.truncate(path, path.stat().st_size // 2)
            die()

    np.savez = half


def without_picture() -> None:
    large.write_image = die


def in_a_process(trap: Callable[[], None] | None, run: Callable[[], object]) -> None:
    """Run in a child, which the trap kills."""
    child = os.fork()
    if not child:
        if trap is not None:
            trap()
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == (0 if trap is None else signal.SIGKILL), status


def main(folder: Path) -> None:
    from small_segmentor import load, write_segmentor

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 300, 200)).astype(np.uint8)
    place = rasterio.transform.from_origin(5e5, 4e6, 0.5, 0.5)
    profile = {'height': 300, 'width': 200, 'count': 3, 'dtype': 'uint8', 'crs': 'EPSG:32633', 'transform': place}
    with rasterio.open(folder / 'x.tif', 'w', driver='GTiff', **profile) as file:
        file.write(pixels)
    inferencer = load(write_segmentor(folder))

    def run(name: str, resume: bool) -> Callable[[], object]:
        (folder / name).mkdir(exist_ok=True)
        return lambda: segment_large(
            inferencer, folder / 'x.tif', folder / name / 'x', (64, 64), (32, 48), resume=resume
        )

    in_a_process(None, run('whole', False))
    in_a_process(between, run('killed', False))
    for trap in (half_written, without_picture, None):
        in_a_process(trap, run('killed', True))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
