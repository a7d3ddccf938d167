"""ONNX files, and those of OpenVINO, which are made of them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from mmvim.files import replacing
from mmvim.inference.runtimes import KERNELS, openvino_extension

from .decompose import decompositions

#: Of the operators that are written; what any runtime of the last years reads.
OPSET = 18
#: Tensors of fewer numbers stay fp32 in half precision: biases, norms, A, which weigh nothing.
FEW = 1024


def write_onnx(
    program: torch.export.ExportedProgram, outputs: tuple[str, ...], path: Path, form: str, half: bool, int8: bool
) -> None:
    """Write a graph as ONNX.

    Args:
        program: Of :func:`.graph.trace`.
        outputs: Their names.
        path: Of the file; in a folder that exists.
        form: Of the recurrence, a key of :data:`.recurrence.FORMS`.
        half: Whether large weights are stored as fp16; they are computed with as fp32.
        int8: Whether weights of linear layers become int8, by ONNX Runtime's dynamic quantisation or OpenVINO's NNCF.
    """
    written = _as_onnx(program, outputs, form)
    with replacing(path) as draft:
        if int8:
            _quantised(written, draft)
        elif half:
            _save_half(written.model_proto, draft)
        else:
            written.save(draft)


def write_openvino(
    program: torch.export.ExportedProgram, outputs: tuple[str, ...], path: Path, form: str, half: bool, int8: bool
) -> None:
    """Write a graph as OpenVINO's pair of ``.xml`` and ``.bin``, by way of ONNX; arguments as :func:`write_onnx`.

    Raises:
        FileNotFoundError: If ``form`` is :data:`~mmvim.inference.runtimes.KERNELS` and the extension is not built.
    """
    import openvino

    extension = [openvino_extension()] if form == KERNELS else None

    with TemporaryDirectory() as folder:
        between = Path(folder, 'model.onnx')
        _as_onnx(program, outputs, form).save(between)
        model = openvino.convert_model(between, extension=extension)
    if int8:
        import nncf

        model = nncf.compress_weights(model)
    weights = path.with_suffix('.bin')
    with replacing(weights) as draft_of_weights, replacing(path) as draft:
        openvino.save_model(model, draft, compress_to_fp16=half)
        os.replace(draft.with_suffix('.bin'), draft_of_weights)


def _as_onnx(program: torch.export.ExportedProgram, outputs: tuple[str, ...], form: str) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # PyTorch's own, of its exporter
        plain = program.run_decompositions(decompositions(form))
        return torch.onnx.export(
            plain, dynamo=True, opset_version=OPSET, input_names=['image'], output_names=list(outputs), verbose=False
        )


def _quantised(written: torch.onnx.ONNXProgram, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix('.fp32.onnx')
    try:
        written.save(whole)
        quantize_dynamic(whole, path, op_types_to_quantize=['MatMul', 'Gemm'], weight_type=QuantType.QInt8)
    finally:
        whole.unlink(missing_ok=True)


def _save_half(model, path: Path) -> None:
    """The model with large fp32 tensors stored as fp16 and cast where they are used, as OpenVINO does."""
    import onnx

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < FEW:
            continue
        name = tensor.name
        halved = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), f'{name}.half')
        tensor.CopyFrom(halved)
        casts.append(onnx.helper.make_node('Cast', [halved.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)
