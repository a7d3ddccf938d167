"""The command lines: what stands in ``tools/`` calls these."""

from .run import run_tool

__all__ = ['run_tool']
