"""What ``tools/demo_report.py`` and ``tools/demo_det_report.py`` do: measure a demo's model, show a table and files."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show_report(
    description: str, doing: str, report: Callable[..., tuple[dict[str, Any], list[Path]]], table: Callable[..., Table]
) -> None:
    """Read the command line, measure, print.

    Args:
        description: For ``--help``.
        doing: What is said while it measures.
        report: Measures and draws: ``report(config, checkpoint, out)`` gives the numbers and the files.
        table: The numbers for people.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--out', help='folder for the pictures and report.json (default: report/ beside the checkpoint)'
    )
    args = parser.parse_args()
    console = Console()
    with console.status(doing):
        found, files = report(args.config, args.checkpoint, args.out or Path(args.checkpoint).parent / 'report')
    console.print(table(found))
    for path in files:
        console.print(str(path), soft_wrap=True)
