"""How much a trained model has learned, against itself untrained, in numbers and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmvim.engine.runner import Runner
from mmvim.files import write_whole


def compare_with_untrained(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    measure: Callable[[Runner], Any],
    draw: Callable[[Iterator[BaseDataElement], Runner, Path], list[Path]],
    pictures: int = 4,
    baselines: Callable[[Config], dict[str, Any]] = lambda _: {},
) -> tuple[dict[str, Any], list[Path]]:
    """Measure a model on the test images of its config with fresh weights, and with those of a checkpoint.

    Args:
        config: config file.
        checkpoint: weights of its model.
        out: folder for ``report.json`` and the pictures.
        measure: what is told of the model of a runner.
        draw: draws predictions into a folder; returns the files.
        pictures: number of test images whose predictions are drawn.
        baselines: what is told of others on the same images, by name.

    Returns:
        What was measured, as ``{'untrained': ..., 'trained': ...}`` with the baselines between them, and all files
        written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(config)
    # pycocotools prints its progress.
    with TemporaryDirectory() as logs, open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere):
        cfg.merge_from_dict({'work_dir': logs, 'log_level': 'ERROR', 'load_from': None, 'resume': False})
        runner = Runner.from_cfg(cfg)
        found = {'untrained': measure(runner), **baselines(cfg)}
        runner.load_checkpoint(str(checkpoint))
        found['trained'] = measure(runner)
    files = draw(islice(_predictions(runner), pictures), runner, out)
    summary = out / 'report.json'
    write_whole(summary, json.dumps(found, indent=2) + '\n')
    return found, [summary, *files]


def _predictions(runner: Runner) -> Iterator[BaseDataElement]:
    """Test images one after the other, with truth and prediction."""
    runner.model.eval()
    dataset = runner.test_dataloader.dataset
    for index in range(len(dataset)):
        sample = dataset[index]
        with torch.no_grad():
            (result,) = runner.model.test_step({'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]})
        yield result
