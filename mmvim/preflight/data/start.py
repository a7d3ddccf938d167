"""The quick part of the check, at the start of training and testing."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console

from mmvim.errors import UserValueError

from .overlap import check_overlap
from .parts import checkers_of
from .show import lines, sentence, show_table
from .tally import Severity, Tally

if TYPE_CHECKING:
    from mmengine.config import Config

SECONDS = 10.0


def check_at_start(cfg: Config, *stages: str, seconds: float = SECONDS) -> None:
    """See that data can be used before a model is built; what can be mended is read from a mended copy.

    Every process of a run reads the annotations, of which it may need a mended copy. The first one opens images and
    label maps too, and prints; where it stops, its launcher stops the others.

    Args:
        cfg: Config of the run; the annotation files of its data sets and evaluators may be changed.
        stages: Those that the run will read.
        seconds: Images and label maps are read for about so long; annotations are always read whole.

    Raises:
        ValueError: With the first fault that cannot be trained on, after a list of all.
    """
    whole, trained, speaks = Tally(), [], _is_first_process()
    until = monotonic() + (seconds if speaks else 0.0)
    for checker in checkers_of(cfg, stages, whole):
        tally = checker.quick(until)
        if checker.stage == 'train':
            trained += checker.image_files()
        elif trained:
            check_overlap(trained, checker.image_files(), tally)
        if _has_errors(tally):
            if speaks:
                show_table(f'{checker.stage}: {checker.name}', tally, Console(stderr=True))
        else:
            mended = checker.mend(Path(cfg.work_dir, 'annotations'))
            said = [*lines(tally), *([f'data: {mended}'] if mended else [])]
            if speaks and said:
                print(*said, sep='\n', flush=True)
        whole.merge(tally)
    if _has_errors(whole):
        raise UserValueError(sentence(whole))
    if 'train' in stages:
        _demand_a_batch(cfg.get('train_dataloader') or {}, len(trained))


def _demand_a_batch(loader: dict, images: int) -> None:
    """That an epoch has a batch at all, where an incomplete one is left out. What wraps data sets may repeat them."""
    size, sampler = loader.get('batch_size'), (loader.get('sampler') or {}).get('type')
    counts = sampler == 'DefaultSampler' and 'dataset' not in loader['dataset'] and 'datasets' not in loader['dataset']
    if counts and loader.get('drop_last') and size and 0 < images < size:
        raise UserValueError(
            f'{images} training images are fewer than train_dataloader.batch_size={size}, and drop_last=True leaves '
            f'out what does not fill a batch: set a batch_size of at most {images}'
        )


def _has_errors(tally: Tally) -> bool:
    return any(kind.severity is Severity.ERROR for kind, _ in tally)


def _is_first_process() -> bool:
    ranks = (os.environ.get(name) for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'))
    return next((rank for rank in ranks if rank), '0') == '0'
