"""How often each class is there, as a picture."""

from __future__ import annotations

from pathlib import Path

from .checker import Statistics


def draw_classes(statistics: Statistics, title: str, path: Path) -> Path:
    """Draw a bar for each class, the most frequent on top.

    Args:
        statistics: Of a data set.
        title: Above the bars.
        path: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = sorted(statistics.classes.items(), key=lambda item: item[1])
    figure = Figure(figsize=(8, 1.2 + 0.2 * len(counts)), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = [count for _, count in counts]
    bars = axes.barh(range(len(counts)), values, color='tab:blue')
    axes.set_yticks(range(len(counts)), [str(name) for name, _ in counts])
    axes.bar_label(bars, [f'{value:,}' for value in values], padding=3, fontsize=8)
    if max(values) > 100 * max(min(values), 1):
        axes.set_xscale('symlog')
    axes.margins(x=0.12)
    axes.set_ylim(-0.7, len(counts) - 0.3)
    axes.set_xlabel(statistics.unit)
    axes.set_title(title)
    figure.savefig(path, dpi=100)
    return path
