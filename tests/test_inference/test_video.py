"""Videos: frames read ahead, averaged over time, and what is wrong with files."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData

from mmvim.inference import video
from mmvim.inference.ahead import read_ahead
from mmvim.inference.smooth import Smoothing
from mmvim.inference.video import convert_video


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'read_ahead']


def test_items_come_in_order_and_no_more_than_allowed_wait() -> None:
    taken = []
    with read_ahead((taken.append(n) or n for n in range(50)), 4) as items:
        assert next(items) == 0
        time.sleep(0.2)
        assert len(taken) <= 6  # one given, four waiting, one in the reader's hand
        assert list(items) == list(range(1, 50))
    assert not readers()


def test_an_error_comes_out_where_the_item_would_have_come() -> None:
    def source():
        yield 1
        raise OSError('the disk is gone')

    with read_ahead(source(), 4) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match='the disk is gone'):
            next(items)
    assert not readers()


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_leaving_half_way_ends_the_thread(error: type[BaseException]) -> None:
    with pytest.raises(error), read_ahead(iter(range(1000)), 2) as items:
        next(items)
        raise error
    assert not readers()


def sample(*values: float) -> BaseDataElement:
    """A prediction of one pixel."""
    return BaseDataElement(seg_logits=PixelData(data=torch.tensor(values).reshape(-1, 1, 1)))


def test_smoothing_is_the_average_with_falling_weights() -> None:
    smoothing, frames = Smoothing(0.25), [(4.0, 0.0), (0.0, 2.0), (0.0, 6.0)]
    found = [smoothing(sample(*frame)) for frame in frames]
    assert found[-1].seg_logits.data.flatten().tolist() == [4 * 0.75**2, 2 * 0.25 * 0.75 + 6 * 0.25]
    first = [Smoothing(0.25)(sample(*frames[0])).pred_sem_seg.data.item()]
    assert first + [one.pred_sem_seg.data.item() for one in found[1:]] == [0, 0, 0]
    assert [Smoothing(1.0)(sample(*frame)).pred_sem_seg.data.item() for frame in frames] == [0, 1, 1]


def test_one_output_is_a_probability() -> None:
    smoothing = Smoothing(0.5)
    assert [smoothing(sample(p), 0.3).pred_sem_seg.data.item() for p in (0.9, 0.0, 0.0)] == [1, 1, 0]


@pytest.mark.parametrize('weight', [0.0, 1.5, -1.0, float('nan')])
def test_weights_that_are_none(weight: float) -> None:
    with pytest.raises(ValueError, match='is above 0 and at most 1'):
        Smoothing(weight)


class Reader:
    """Frames of any size, as some decoders give them."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.frames = iter([np.zeros((*size, 3), np.uint8) for size in sizes])

    def get(self, what: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        frame = next(self.frames, None)
        return frame is not None, frame

    def release(self) -> None:
        pass


def test_a_video_that_changes_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(video.cv2, 'VideoCapture', lambda _: Reader((32, 48), (32, 48), (48, 32)))
        with pytest.raises(ValueError, match=r'from 48 x 32 to 32 x 48 after 2 frames; .*out.mp4 has those'):
            convert_video(Path('x.mp4'), tmp_path / 'out.mp4', lambda frame: frame)
    assert cv2.VideoCapture(str(tmp_path / 'out.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert not readers()


def test_a_video_without_frames(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / 'x.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (48, 32))
    writer.release()
    with pytest.raises(ValueError, match='has no frames'):
        convert_video(tmp_path / 'x.avi', tmp_path / 'out.mp4', lambda frame: frame)
    assert not (tmp_path / 'out.mp4').exists()
