"""``python -m mmvim.ops``: which implementations of the scans there are, and which one is taken."""

import torch

from . import backends


def choice(device: str) -> str:
    """What tensors on ``device`` run on, or why they cannot run."""
    try:
        return backends.describe(device)
    except (RuntimeError, ValueError) as error:  # MMVIM_BACKEND asks for what is not there
        return f'scans: none ({error})'


def lines() -> list[str]:
    """The choice for CPU and for CUDA tensors, then every backend: what it is, or why not and what to type."""
    result = [f'torch {torch.__version__}', *(f'{device} tensors, {choice(device)}' for device in ('cpu', 'cuda'))]
    for row in backends.report():
        result += ['', f'backend {row.name}: {"" if row.available else "not available, "}{row.reason}']
        if row.remedy:
            result.append(f'    type: {row.remedy}')
    names = ', '.join(backends.BACKENDS)
    return [*result, '', f"To choose: backend='...' in a call, or the environment variable MMVIM_BACKEND ({names})"]


if __name__ == '__main__':
    print('\n'.join(lines()))
