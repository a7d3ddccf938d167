"""What pyproject.toml cannot say: the compiled kernels, and the configs and scripts in the package as ``.mim``."""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # an isolated build does not have the project's folder on its path

from kernels.build import LIBRARIES, build_or_explain, requested  # noqa: E402
from kernels.toolchain import BuildError  # noqa: E402

MIM_ITEMS = ('benchmarks', 'configs', 'tools', 'model-index.yml')


class BuildPython(build_py):
    """Adds ``mmvim/.mim``, where OpenMMLab's tools look for the configs and scripts of an installed package."""

    def run(self) -> None:
        if self.editable_mode:
            if requested() == 'none':  # what an earlier build put here would be loaded
                for library in LIBRARIES:
                    (ROOT / 'mmvim' / f'{library.module}.abi3.so').unlink(missing_ok=True)
            self._fill(ROOT / 'mmvim' / '.mim', link=True)
        else:
            # pip builds inside this folder; what an earlier build left here would travel in this wheel too.
            shutil.rmtree(self.build_lib, ignore_errors=True)
            self._fill(Path(self.build_lib) / 'mmvim' / '.mim', link=False)
        super().run()

    @staticmethod
    def _fill(mim: Path, link: bool) -> None:
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for source in filter(Path.exists, (ROOT / item for item in MIM_ITEMS)):
            target = mim / source.name
            if link:
                target.symlink_to(os.path.relpath(source, mim))
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy2(source, target)


class Package(Distribution):
    """Without kernels a wheel of Python alone, ``py3-none-any``: one file for Windows, macOS and every Linux."""

    def has_ext_modules(self) -> bool:
        return requested() != 'none' and super().has_ext_modules()


class BuildKernels(build_ext):
    """Compiles the libraries of kernels, or says of each in one line why mmvim takes its PyTorch path instead."""

    def build_extension(self, ext: Extension) -> None:
        if self.editable_mode:  # setuptools copies the result here, or leaves what an earlier build put here
            (ROOT / 'mmvim' / Path(self.get_ext_filename(ext.name)).name).unlink(missing_ok=True)
        library = next(library for library in LIBRARIES if f'mmvim.{library.module}' == ext.name)
        try:
            tell(build_or_explain(library, Path(self.get_ext_fullpath(ext.name))))
        except BuildError as error:
            raise SystemExit(f'mmvim: {error}') from None


def tell(line: str) -> None:
    """Print a line, past pip too: pip shows a build's output only when the build fails."""
    print(line, file=sys.stderr)
    if line and not sys.stderr.isatty() and os.path.exists('/dev/tty'):
        try:
            with open('/dev/tty', 'w') as terminal:
                print(f'\n{line}', file=terminal)
        except OSError:  # no terminal belongs to this process
            return


setup(
    # The libraries hold no Python symbol: one file serves every Python and, by torch's stable interface, every
    # torch from 2.10 on. They are loaded by torch.ops.load_library.
    ext_modules=[
        Extension(f'mmvim.{library.module}', sources=[], py_limited_api=True, optional=True) for library in LIBRARIES
    ],
    cmdclass={'build_py': BuildPython, 'build_ext': BuildKernels},
    distclass=Package,
    options={'bdist_wheel': {'py_limited_api': 'cp310'} if requested() != 'none' else {}},
)
