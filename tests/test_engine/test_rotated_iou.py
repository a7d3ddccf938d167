"""Common areas of rotated boxes on a CPU, against mmcv's measure, which is not differentiable, and differences."""

import pytest
import torch
from mmcv.ops import box_iou_rotated, diff_iou_rotated
from torch import Tensor

from mmvim.engine.rotated_iou import let_rotated_iou_run_on_cpu


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff_iou_rotated, 'ext_module', diff_iou_rotated.ext_module)  # puts it back afterwards
    let_rotated_iou_run_on_cpu()


def iou(first: Tensor, second: Tensor) -> Tensor:
    return diff_iou_rotated.diff_iou_rotated_2d(first[None], second[None])[0]


def boxes(count: int, spread: float) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    x = torch.rand(count, 5, generator=generator)
    scale, shift = torch.tensor([spread, spread, 30.0, 30.0, 6.0]), torch.tensor([0.0, 0.0, 4.0, 4.0, -3.0])
    return x * scale + shift


@pytest.mark.parametrize('spread', [4.0, 20.0, 200.0])
def test_values(spread: float) -> None:
    first, second = boxes(200, spread), boxes(201, spread)[:200]
    expected = box_iou_rotated(first, second, aligned=True)
    torch.testing.assert_close(iou(first, second), expected, rtol=1e-4, atol=1e-4)
    assert (expected > 0.3).any() and (spread < 100 or (expected == 0).any())


def test_a_box_inside_of_another_and_one_far_away() -> None:
    first = torch.tensor([[50.0, 50, 40, 20, 0.3], [50, 50, 40, 20, 0.3]])
    second = torch.tensor([[50.0, 50, 20, 10, 0.3], [500, 50, 40, 20, 0.3]])
    torch.testing.assert_close(iou(first, second), torch.tensor([0.25, 0.0]))


def test_gradients() -> None:
    first, second = boxes(20, 8.0).double(), boxes(21, 8.0)[:20].double()
    first.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: iou(x, second), first, eps=1e-6, atol=1e-5)
