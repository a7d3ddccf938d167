"""Models as files for other runtimes: ONNX, OpenVINO, AOTInductor, torch.export."""

from .model import FORMATS, Model, export

__all__ = ['FORMATS', 'Model', 'export']
