"""Say what the model of `make demo` has learned: a table of mIoU, and pictures of image, truth and prediction.

python tools/demo_report.py configs/demo/upernet_vim_t_miniature.py work_dirs/upernet_vim_t_miniature/iter_200.pth
"""

from rich.table import Table

from mmvim.analysis.demo_report import report
from mmvim.commands import run_tool
from mmvim.commands.report import show_report


def in_table(miou: dict[str, float]) -> Table:
    """Percent, and how many times those of others the trained model has."""
    table = Table('on held-out scenes', title='mIoU, %')
    table.add_column('mIoU', justify='right')
    table.add_column('the trained model has', justify='right')
    for name, label in (
        ('untrained', 'the same model, untrained'),
        ('per_pixel', 'a classifier on colour and position of single pixels'),
    ):
        table.add_row(label, f'{miou[name]:.2f}', f'{miou["trained"] / miou[name]:.1f} times this')
    table.add_row('the trained model', f'{miou["trained"]:.2f}', '', style='bold')
    return table


if __name__ == '__main__':
    doing = 'measuring mIoU: untrained model, single pixels, trained model'
    run_tool(lambda: show_report(__doc__, doing, report, in_table))
