"""Activations of a stage, and Grad-CAM: where in a stage a score comes from."""

import numpy as np
import torch
from torch import Tensor, nn

from mmvim.errors import UserModuleNotFoundError

from .targets import score_of
from .view import View
from .watch import Watch


def activation(backbone: nn.Module, inputs: Tensor, stage: int = -1) -> np.ndarray:
    """How strongly a stage responds at each place: root mean square over its channels.

    Args:
        backbone: Of mmvim, in evaluation mode.
        inputs: (1, 3, H, W), normalised.
        stage: Number of the stage, or of the block of a plain backbone; negative from the end.

    Returns:
        (h, w), float32.

    Raises:
        TypeError: If the backbone is another's.
        ValueError: If there is no such stage.
    """
    found: list[Tensor] = []
    with Watch(backbone, stage) as watch, torch.no_grad():
        watch.probe.register_forward_hook(lambda module, inputs, output: found.append(output))
        backbone(inputs)
    return found[0][0].float().square().mean(0).sqrt().cpu().numpy()


def grad_cam(
    model: nn.Module, view: View, stage: int = -1, place: tuple[int, int] | None = None, label: int | None = None
) -> tuple[np.ndarray, int, str]:
    """Grad-CAM (https://arxiv.org/abs/1610.02391) of a stage: where it holds what raises a score.

    The score is that of a class for a classifier; for a segmentor that of a class at a pixel, or summed over all pixels
    of that class (Seg-Grad-CAM, https://arxiv.org/abs/2002.11434); for a detector that of a box.

    Args:
        model: Classifier, segmentor or detector with a backbone of mmvim, in evaluation mode.
        view: Of :func:`.view.see`.
        stage: Number of the stage, or of the block of a plain backbone; negative from the end.
        place: Row and column in ``view.picture``: of the pixel of a segmentor, or within the box of a detector.
        label: Number of the class; by default what the model predicts there.

    Returns:
        (h, w), float32, at least 0; the number of the class that was explained; and which score of it, in words.

    Raises:
        ModuleNotFoundError: If captum is not installed.
        TypeError: If the backbone is another's.
        ValueError: If there is no such stage or class, or a detector sees nothing there.
    """
    try:
        from captum.attr import LayerGradCam
    except ModuleNotFoundError as error:
        raise UserModuleNotFoundError(
            f"Grad-CAM needs captum ({error}): pip install -c constraints.txt -e '.[maps]'"
        ) from error
    score = score_of(model, view, place, label)
    with Watch(model.backbone, stage) as watch, torch.enable_grad():
        values = LayerGradCam(score, watch.probe).attribute(view.inputs.requires_grad_(), relu_attributions=True)
    view.inputs.requires_grad_(False)
    return values[0, 0].detach().float().cpu().numpy(), score.label, score.said
