"""PyTorch's own files: graphs to be opened by PyTorch, and compiled packages to be run without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmvim.files import replacing
from mmvim.ops.library import SCHEMAS


def write_exported(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a graph by ``torch.export.save``; to open it takes torch and ``import mmvim.ops``."""
    with replacing(path) as draft:
        torch.export.save(program, draft)


def write_aoti(program: torch.export.ExportedProgram, path: Path, description: dict[str, Any]) -> None:
    """Compile a graph by AOTInductor into a package for ``torch._inductor.aoti_load_package`` and for C++.

    The package holds no kernels of mmvim: who loads it loads their library too. As long as nobody has declared the
    operators in that process, which ``import mmvim.ops`` does in Python, C++ declares them itself by their schemas;
    these, and what there is to know of the input, stand in the metadata of the package.

    Raises:
        RuntimeError: If there is no C++ compiler, which AOTInductor needs.
    """
    given = description['input']
    metadata = {
        'schemas': '\n'.join(f'{name}{SCHEMAS[name]}' for name in ('scan', 'walk_conv')),
        'size': ' '.join(map(str, given.get('size', (0, 0)))),
        'channels': given['channels'],
        'mean': ' '.join(map(str, given['mean'])),
        'std': ' '.join(map(str, given['std'])),
    }
    with replacing(path) as draft:
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(draft), inductor_configs={'aot_inductor.metadata': metadata}
        )
