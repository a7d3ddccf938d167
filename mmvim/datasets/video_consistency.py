"""How steady the predictions of a video are."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmvim.errors import UserValueError
from mmvim.files import write_whole
from mmvim.registry import METRICS

Frame = tuple[str, str, tuple[int, int], bytes, bytes]


@METRICS.register_module()
class VideoConsistency(BaseMetric):
    """mVC of VSPW (Miao et al., CVPR 2021): how much of what stays the same in a video stays the same in predictions.

    Of the pixels whose true class does not change over C frames in a row, the part whose predicted class does not
    either, right or wrong; then the mean over all windows of C frames of all videos. Counted as the authors' script
    does it: pixels without a class count as any others, and the last window of a video is left out.

    Frames may come in any order and from several processes: their label maps are kept, compressed, to the end.

    Args:
        frames (Sequence[int]): The C, at least 2.
        output_dir (str, optional): Folder that takes the predictions as ``VIDEO/FRAME.png``, in the numbers of the data
            set's label maps.
        format_only (bool): Whether predictions are only written, for there are no labels to measure with.
        **kwargs: Of mmengine's ``BaseMetric``.

    Raises:
        ValueError: If C is less than 2; later, if the frames of a video differ in size.
    """

    default_prefix = None

    def __init__(
        self, frames: Sequence[int] = (8, 16), output_dir: str | None = None, format_only: bool = False, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.frames = () if format_only else tuple(frames)
        self.output_dir = output_dir
        self.format_only = format_only
        if not frames or min(frames) < 2:
            raise UserValueError(f'frames={frames}: expected numbers of at least 2, such as (8, 16)')

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep truth and prediction of each frame; ``.../VIDEO/origin/FRAME`` is its ``img_path``."""
        for sample in data_samples:
            path = Path(sample['img_path'])
            if self.output_dir is not None:
                labels = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy().astype(np.uint8)
                numbers = labels + np.uint8(bool(sample.get('reduce_zero_label')))
                name = Path(self.output_dir, path.parent.parent.name, f'{path.stem}.png')
                write_whole(name, cv2.imencode('.png', numbers)[1].tobytes())
            if self.format_only:
                continue
            maps = [sample[key]['data'].squeeze(0).cpu().numpy() for key in ('gt_sem_seg', 'pred_sem_seg')]
            packed = (zlib.compress(np.ascontiguousarray(each, dtype=np.uint8), 1) for each in maps)
            self.results.append((str(path.parent.parent), path.stem, maps[0].shape, *packed))

    def compute_metrics(self, results: list[Frame]) -> dict[str, float]:
        """``mVC8``, ``mVC16``, ... in percent; not a number where no video is long enough."""
        videos = defaultdict(list)
        for video, *frame in results:
            videos[video].append(frame)
        found: dict[int, list[float]] = {length: [] for length in self.frames}
        for video, frames in videos.items():
            for length, shares in shares_of_video(video, sorted(frames), self.frames).items():
                found[length] += shares
        for length in (length for length, shares in found.items() if not shares):
            MMLogger.get_current_instance().warning(f'mVC{length}: no video has more than {length} frames')
        return {f'mVC{length}': 100 * float(np.mean(shares or np.nan)) for length, shares in found.items()}


def shares_of_video(video: str, frames: Sequence[list], lengths: Sequence[int]) -> dict[int, list[float]]:
    """For each length the share of steady predictions in every window but the last."""
    found: dict[int, list[float]] = {length: [] for length in lengths}
    before = None
    for number, (name, shape, *packed) in enumerate(frames):
        maps = np.stack([np.frombuffer(zlib.decompress(each), np.uint8).reshape(shape) for each in packed])
        if before is None:
            same = np.ones(maps.shape, dtype=np.int32)  # frames since when truth and prediction are what they are
        elif before.shape != maps.shape:
            raise UserValueError(f'frame {name} of {video} has another size than those before it')
        else:
            same = np.where(maps == before, same + 1, 1)
        before = maps
        for length in lengths:
            if length - 1 <= number < len(frames) - 1:
                steady = same[0] >= length
                if steady.any():
                    found[length].append(float((same[1][steady] >= length).mean()))
    return found
