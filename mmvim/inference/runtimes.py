"""Exported files: opened by the runtime that they are for, and put in the place of a model's own computation."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn

from mmvim.errors import UserFileNotFoundError, UserModuleNotFoundError, UserValueError

from .grid import default_stride

#: The form of scans in files that hold mmvim's operators as they are, for OpenVINO and an extension of it.
KERNELS = 'kernels'
_EXTENSION = Path(__file__).parents[1] / '_openvino.so'

#: What takes an image (1, 3, H, W) and returns the outputs of a model.
Runner = Callable[[Tensor], Sequence[Tensor]]


def description_of(exported: Path) -> Path:
    """Where the description of an exported file is."""
    return exported.with_name(f'{exported.name}.json')


def is_exported(path: str) -> bool:
    """Whether a path is that of an exported file, by its ending."""
    return path.endswith(('.onnx', '.xml', '.pt2'))


def read_description(path: str | Path) -> dict[str, Any]:
    """What ``tools/export.py`` wrote of a file.

    Raises:
        FileNotFoundError: If the file is not there, or its description is not.
        ValueError: If the description is none.
    """
    path = Path(path)
    if not path.is_file():
        raise UserFileNotFoundError(f'there is no file {path}')
    beside = description_of(path)
    if not beside.is_file():
        raise UserFileNotFoundError(
            f'there is no {beside}, which tools/export.py writes beside the file: copy it along'
        )
    try:
        description = json.loads(beside.read_text())
        _ = description['format'], description['task'], description['input']['name']
        description['config'] = ast.literal_eval(description['config'])
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise UserValueError(f'{beside} is no description by tools/export.py ({error!r})') from error
    return description


def config_of(path: str | Path) -> Config:
    """The config of an exported model, from its description; no code is run."""
    settings = read_description(path)['config']
    settings.pop('custom_imports', None)
    cfg = Config(settings)
    cfg.setdefault('work_dir', 'work_dirs/exported')
    return cfg


class Exported:
    """A model in a file, on the CPU.

    Args:
        path: Of the file; its description is beside it.
        threads: Of the runtime; as many as PyTorch has by default.

    Attributes:
        description: As in the JSON.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_description`; ValueError also if the file is damaged, and
            FileNotFoundError if it needs an extension of OpenVINO that is not built.
        ModuleNotFoundError: If its runtime is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path = Path(path)
        self.description = read_description(path)
        opener = _OPENERS.get(self.description['format'])
        if opener is None:
            raise UserValueError(f'{path} is of no known format: {self.description["format"]!r}')
        try:
            self._run = opener(self.path, threads or torch.get_num_threads())
        except ModuleNotFoundError as error:
            raise UserModuleNotFoundError(
                f"{path} needs {error.name}, which is not installed: pip install -c constraints.txt -e '.[export]'"
            ) from error
        except UserFileNotFoundError:
            raise
        except Exception as error:  # each runtime has its own
            raise UserValueError(f'{path} cannot be opened: {str(error).splitlines()[0]}') from error

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the image; None for a file that takes several sizes."""
        return tuple(self.description['input']['size']) if 'size' in self.description['input'] else None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """The outputs of the model.

        Args:
            image: (1, 3, H, W), normalised, of a size that the file takes.
        """
        return self._run(image.float().cpu().contiguous())

    def segment(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of images (B, 3, H, W), filled up with zeros to a size that the file takes.

        Raises:
            ValueError: If they are larger than that.
        """
        height, width = images.shape[-2:]
        rows, columns = self._filled(height, width)
        filled = F.pad(images, (0, columns - width, 0, rows - height))
        logits = torch.cat([self(image[None])[0] for image in filled])
        return logits[..., :height, :width].to(images)

    def classify(self, images: Tensor) -> Tensor:
        """Scores (B, classes) of images (B, 3, H, W) of a size that the file takes.

        Raises:
            ValueError: If they are of another size.
        """
        if self._filled(*images.shape[-2:]) != tuple(images.shape[-2:]):
            raise UserValueError(f'{self.path} takes {self._taken()}, not {images.shape[-2]} x {images.shape[-1]}')
        return torch.cat([self(image[None])[0] for image in images]).to(images)

    def _filled(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size that the file takes and an image of this one fits into."""
        sizes = self.description['input'].get('sizes')
        if sizes is None:
            low, high, step = self.size, self.size, 1
        else:
            low, high, step = sizes['smallest'], sizes['largest'], sizes['multiple_of']
        filled = tuple(max(least, -(-side // step) * step) for side, least in zip((height, width), low, strict=True))
        if any(side > most for side, most in zip(filled, high, strict=True)):
            raise UserValueError(f'{self.path} takes {self._taken()}, not {height} x {width}')
        return filled

    def _taken(self) -> str:
        if self.size:
            return f'images of {self.size[0]} x {self.size[1]}'
        sizes = self.description['input']['sizes']
        low, high = (' x '.join(map(str, sizes[end])) for end in ('smallest', 'largest'))
        return f'images of {low} to {high} in steps of {sizes["multiple_of"]}'


def inner_model(model: nn.Module) -> nn.Module:
    """The segmentor or classifier in what wraps it, for several processes or test-time augmentation."""
    kinds = ('encode_decode', 'scores')
    return next((part for part in model.modules() if any(hasattr(type(part), kind) for kind in kinds)), model)


def run_by(model: nn.Module, exported: Exported) -> None:
    """Let a file compute what a model of its config would; images, windows and results stay the model's matter.

    A segmentor whose file is of one size goes over larger images by a window of that size.

    Raises:
        ValueError: If it is the file of another kind of model, or of a backbone.
    """
    task = exported.description['task']
    kind = {'segmentation': 'encode_decode', 'classification': 'scores'}.get(task)
    if kind and not hasattr(model, kind):
        raise UserValueError(f'{exported.path} is for {task}, the config builds a {type(model).__name__}')
    if task == 'segmentation':
        theirs, ours = len(exported.description['classes']), model.decode_head.num_classes
        if theirs != ours:
            raise UserValueError(
                f'{exported.path} has {theirs} classes, the config {ours}: take the config of the file'
            )
        model.encode_decode = lambda inputs, _: exported.segment(inputs)
        if exported.size and model.test_cfg.get('mode') != 'slide':
            stride = default_stride(exported.size)
            model.test_cfg.update(mode='slide', crop_size=exported.size, stride=stride)
        elif exported.size and tuple(model.test_cfg.crop_size) != exported.size:
            raise UserValueError(
                f'{exported.path} takes images of {exported.size[0]} x {exported.size[1]}, the config tests by windows '
                f'of {" x ".join(map(str, model.test_cfg.crop_size))}: export that size'
            )
    elif task == 'classification':
        model.scores = exported.classify
    else:
        raise UserValueError(f'{exported.path} is a backbone, which draws and predicts nothing: export the whole model')


def _open_onnx(path: Path, threads: int) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda image: [torch.from_numpy(array) for array in session.run(None, {'image': image.numpy()})]


def openvino_extension() -> Path:
    """The library by which OpenVINO knows mmvim's operators.

    Raises:
        FileNotFoundError: If it is not built.
    """
    if not _EXTENSION.exists():
        raise UserFileNotFoundError(
            f'files of --scan kernels need {_EXTENSION}, which is not built: python kernels/build_openvino.py in a '
            'checkout of mmvim, or export with --scan plain'
        )
    return _EXTENSION


def _open_openvino(path: Path, threads: int) -> Runner:
    import openvino

    core = openvino.Core()
    if read_description(path).get('scan') == KERNELS:
        core.add_extension(openvino_extension())
    # Otherwise bf16 on processors that have it: a choice for whoever deploys.
    options = {'INFERENCE_NUM_THREADS': threads, 'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
    compiled = core.compile_model(path, 'CPU', options)
    return lambda image: [torch.from_numpy(array.copy()) for array in compiled(image.numpy()).values()]


def _open_aoti(path: Path, threads: int) -> Runner:
    import mmvim.ops  # noqa: F401  the operators in the package

    run = torch._inductor.aoti_load_package(str(path))
    return lambda image: as_sequence(run(image))


def _open_exported(path: Path, threads: int) -> Runner:
    import mmvim.ops  # noqa: F401

    run = torch.export.load(path).module()
    return lambda image: as_sequence(run(image))


def as_sequence(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """The outputs of a model that may have one."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


_OPENERS = {'onnx': _open_onnx, 'openvino': _open_openvino, 'aoti': _open_aoti, 'exported': _open_exported}
