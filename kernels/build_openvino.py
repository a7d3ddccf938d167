"""Compile the C++ kernels into an extension of OpenVINO, for files of ``tools/export.py --to openvino --scan kernels``.

Needs the headers and libraries that pip's ``openvino`` has, and no torch. The extension is for that version of it.
"""

import importlib.util
import shlex
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from kernels.toolchain import (
    KERNEL_FLAGS,
    KERNELS,
    BuildError,
    check_platform,
    compile_all,
    find_compiler,
    link,
)

TARGET = KERNELS.parent / 'mmvim' / '_openvino.so'


def find_openvino() -> Path:
    """The folder of the installed openvino.

    Raises:
        BuildError: There is none, or it has no headers or libraries.
    """
    spec = importlib.util.find_spec('openvino')
    if spec is None or spec.origin is None:
        raise BuildError("no openvino is installed for this Python: pip install -c constraints.txt -e '.[export]'")
    folder = Path(spec.origin).parent
    if not (folder / 'include' / 'tbb').is_dir():
        raise BuildError(f'{folder} has no headers in include/: install openvino 2025.0 or later by pip')
    return folder


def build_openvino(target: Path) -> None:
    """Compile the kernels and their operators into ``target``, for ``openvino.Core.add_extension``.

    Raises:
        BuildError: This machine, openvino or compiler cannot do it.
    """
    check_platform()
    openvino = find_openvino()
    compiler = find_compiler()
    # Libraries of a wheel have no name without a version, which -l would look for.
    libraries = [str(path) for name in ('libopenvino.so.*', 'libtbb.so.*') for path in (openvino / 'libs').glob(name)]
    kernels, extension = sorted(KERNELS.glob('cpu/*.cpp')), KERNELS / 'openvino' / 'extension.cpp'
    flags = {kernel: ['-DMMVIM_FORWARD_ONLY'] for kernel in kernels} | {
        extension: ['-isystem', str(openvino / 'include')]
    }
    with tempfile.TemporaryDirectory(prefix='mmvim-openvino-') as scratch:
        objects = {source: Path(scratch) / f'{source.stem}.o' for source in flags}
        print(f'mmvim: compiling {len(flags)} C++ files with {shlex.join(compiler)}', flush=True)
        compile_all(
            {
                source: [*compiler, *KERNEL_FLAGS, *flags[source], '-c', str(source), '-o', str(out)]
                for source, out in objects.items()
            }
        )
        link([*compiler, *map(str, objects.values()), *libraries, '-shared', '-Wl,-z,defs'], target)


if __name__ == '__main__':
    try:
        build_openvino(TARGET)
        print(f'mmvim: {TARGET} is built')
    except BuildError as problem:
        raise SystemExit(f'mmvim: the extension of OpenVINO is not built: {problem}') from None
