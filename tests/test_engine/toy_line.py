"""A run of a model of one weight, quick enough to be done in a test."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, TensorDataset

import mmvim  # noqa: F401


class Line(BaseModel):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, *data: torch.Tensor, mode: str = 'tensor') -> dict | list:
        return {'loss': (self.weight - 1).square().sum()} if mode == 'loss' else ['a prediction']


class Scores(BaseMetric):
    """Gives these accuracies, one validation after the other."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, np.float32]:
        score = np.float32(next(self.scores))
        return {'acc': score, 'mIoU': 1 - score}


def train(
    work_dir: Path,
    scores: list[float] | None = None,
    iterations: int = 6,
    resume: bool = False,
    hooks: tuple = (),
    **checkpoint,
) -> Runner:
    """A run with a checkpoint, and a validation if there are scores, every second iteration."""
    data = TensorDataset(torch.zeros(4, 1))

    validation = {}
    if scores is not None:
        validation = {
            'val_dataloader': DataLoader(data, sampler=DefaultSampler(data)),
            'val_cfg': {'type': 'ValLoop'},
            'val_evaluator': Evaluator(Scores(scores)),
        }
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(data, sampler=InfiniteSampler(data)),
        train_cfg={'by_epoch': False, 'max_iters': iterations, 'val_interval': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        default_hooks={
            'checkpoint': {
                'type': 'mmvim.SafeCheckpointHook', 'by_epoch': False, 'interval': 2, 'max_keep_ckpts': 1, **checkpoint,
            }
        },
        custom_hooks=list(hooks),
        experiment_name=str(uuid4()),
        resume=resume,
        **validation,
    )  # fmt: skip
    runner.train()
    return runner
