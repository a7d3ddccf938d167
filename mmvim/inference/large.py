"""A large image to a label map on disk and a small picture of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.infer import BaseInferencer
from mmengine.structures import BaseDataElement, PixelData

from mmvim.errors import UserValueError

from .channels import channels_of, to_picture
from .grid import Grid, Size, default_stride, window_of
from .inferencer import draw
from .outputs import LabelMap, thinned
from .parts import Parts, plan_of
from .processes import my_share, runs, together
from .reading import PLAIN, Reading
from .rows import Rows, open_rows
from .shares import Shares
from .slide import label_bands, label_type, nothing_to_see
from .write import write_image

SMALL = 1024  # pixels of the longer side of the picture, at most
_NEARLY_BLACK = 32  # of 255


def segment_large(
    inferencer: BaseInferencer,
    source: Path,
    out: Path,
    window: Size | None = None,
    stride: Size | None = None,
    batch: int = 4,
    begin: Callable[[int], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
    *,
    reading: Reading = PLAIN,
    blend: str = 'mean',
    resume: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Segment an image of any size in its own resolution.

    Finished rows of windows are kept in a folder beside the output, ``_labels.parts``, until the whole is done. Where
    torchrun started several processes (:func:`.processes.join_processes`), each makes a share of them; the first one
    puts them together. The output is the same, to the byte, for any number of processes and interruptions, as long as
    the device and the number of threads are.

    Args:
        inferencer: of :func:`.inferencer.build_inferencer`, for an ``EncoderDecoder`` of mmseg.
        source: the image; see :func:`.rows.open_rows`.
        out: folder and beginning of the names of the outputs.
        window: height and width of what the model sees at a time; by default what the config tests or trains with.
        stride: steps of the window; by default the config's, or two thirds of ``window``.
        batch: windows at a time.
        begin: is told the number of windows.
        advance: is told each number of windows that are done.
        reading: bands, scale, level and microns per pixel. The number of channels is the model's, whatever it says.
        blend: how overlapping windows are weighted, see :func:`.slide.weight_of`.
        resume: go on with what an interrupted run has left.
        note: is told what is to be said of the image and of the run.

    Returns:
        The label map (Cloud Optimized GeoTIFF for maps; OME-TIFF and polygons for slides; else a tiled TIFF, or PNG
        where tifffile is not installed) and the picture. Each appears when it is complete. Nothing for processes but
        the first.

    Raises:
        ValueError, ModuleNotFoundError: as ``open_rows``, :meth:`.slide.Grid.over` and :func:`.slide.label_bands`.
        FileExistsError, ValueError: if there are parts of an earlier run and ``resume`` was not asked for, or if it was
            another run.
        OSError: if the disk is full; what was finished is kept.
    """
    model = inferencer.model
    if not hasattr(model, 'encode_decode'):
        raise UserValueError(f'{type(model).__name__} takes no windows: only segmentors of the kind EncoderDecoder do')
    if window is None:
        window, usual = window_of(model)
        stride = stride or usual
    stride = stride or default_stride(window)
    reading = replace(reading, channels=replace(reading.channels, count=channels_of(model)))
    shares = Shares()
    with ExitStack() as stack:
        with together(), shares.of('reading'):
            rows = stack.enter_context(open_rows(source, reading, window))
        grid = Grid.over(rows.height, rows.width, window, stride)
        path = rows.output.name(out)
        parts = Parts(out.with_name(f'{out.name}_labels.parts'), len(grid.tops))
        with together():
            if is_main_process():
                options = {
                    'window': window,
                    'stride': stride,
                    'batch': batch,
                    'blend': blend,
                    'amp': inferencer.precision,
                }
                parts.begin(plan_of(inferencer, source, reading=repr(reading), **options), resume)
                for text in rows.notes:
                    note(text)
        try:
            with together():
                _label(model, rows, grid, parts, batch, blend, begin, advance, shares)
            written = _put_together(inferencer, rows, parts, path, out, shares, note) if is_main_process() else []
        except BaseException:
            if is_main_process() and len(parts.missing()) == parts.count:
                parts.remove()
            elif is_main_process():
                note(f'{parts.folder} keeps {parts.describe()}: --resume goes on with them')
            raise
    if is_main_process():
        parts.remove()
        note(f'{source}: {shares}')
    return written


def _label(
    model: torch.nn.Module,
    rows: Rows,
    grid: Grid,
    parts: Parts,
    batch: int,
    blend: str,
    begin: Callable[[int], None],
    advance: Callable[[int], None],
    shares: Shares,
) -> None:
    """Make this process's share of the bands that are missing."""
    missing = parts.missing()
    mine = list(
        runs(my_share(missing, [rows.effort(grid.tops[band], grid.tops[band] + grid.high) for band in missing]))
    )
    begin(sum(grid.count(*span) for span in mine))
    step = _step(rows)
    for span in mine:
        for band in label_bands(model, rows, grid, span, batch, blend, advance, shares):
            with shares.of('writing'):
                parts.write(band.index, band.labels, thinned(band.pixels, band.top, step))


def _put_together(
    inferencer: BaseInferencer,
    rows: Rows,
    parts: Parts,
    path: Path,
    out: Path,
    shares: Shares,
    note: Callable[[str], None],
) -> list[Path]:
    model, meta = inferencer.model, inferencer.model.dataset_meta
    labels = LabelMap(
        rows.height, rows.width, label_type(model), meta['classes'], meta['palette'], nothing_to_see(model),
        lambda: parts.read('labels'), parts.folder,
    )  # fmt: skip
    with shares.of('writing'):
        written = rows.output.write(path, labels)
        pixels = np.concatenate(list(parts.read('picture')))
        small = np.concatenate(list(labels.thinned(_step(rows)))).astype(np.int64)
        found = BaseDataElement(pred_sem_seg=PixelData(data=torch.from_numpy(small)[None]))
        picture = out.with_name(f'{out.name}.png')
        seen = to_picture(pixels)
        drawn = np.where((small == labels.nothing)[..., None], seen, draw(inferencer, seen, found))
        write_image(picture, drawn)
    if pixels.dtype == np.uint8 and pixels.max() < _NEARLY_BLACK:
        note(
            f'{path.name}: the model saw at most {pixels.max()} of 255: if the numbers of the image end early, say '
            'where, such as --scale 0,4095'
        )
    return [*written, picture]


def _step(rows: Rows) -> int:
    """Every how many pixels the picture has one."""
    return -(-max(rows.height, rows.width) // SMALL)
