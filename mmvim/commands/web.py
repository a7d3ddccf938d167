"""What ``tools/web.py`` does: a page on this machine that shows what a model sees."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmvim.engine.cpu import keep_freed_memory
from mmvim.web.serve import serve
from mmvim.web.sources import Limits

from .demo import check_device, positive, positive_number


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until it is stopped; see ``tools/web.py --help``.

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    args = _parser().parse_args(argv)
    check_device(args.device)
    keep_freed_memory()
    limits = Limits(args.megabytes << 20, args.megapixels * 10**6)
    memory = int(args.memory * 10**9)
    serve(args.port, Path(args.work_dirs), limits, memory, args.device, lambda line: print(line, flush=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Serve a page on 127.0.0.1 that shows what models of the zoo and of work_dirs see in an image.',
        epilog='What is on it: docs/web.md.',
    )
    parser.add_argument(
        '--port', type=port_number, default=7860, help='the next one if it is in use (default: %(default)s)'
    )
    parser.add_argument('--work-dirs', default='work_dirs', help='folder of trained models (default: %(default)s)')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument(
        '--memory', type=positive, default=2.0, metavar='GB', help='of models that stay loaded (default: %(default)s)'
    )
    parser.add_argument(
        '--megabytes', type=positive_number, default=100, help='of an uploaded file, at most (default: %(default)s)'
    )
    parser.add_argument(
        '--megapixels', type=positive_number, default=100, help='of an image, at most (default: %(default)s)'
    )
    return parser


# Its name stands in what argparse says of a wrong word.
def port_number(text: str) -> int:
    """Read a number from 1 to 65535."""
    number = int(text)
    if not 0 < number < 65536:
        raise ValueError(text)
    return number
