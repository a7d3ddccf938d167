"""Say what the model of `make demo-det` has learned: a table of AP50, and pictures of truth and prediction.

python tools/demo_det_report.py configs/demo/mask_rcnn_vmamba_miniature.py CHECKPOINT
"""

from rich.table import Table

from mmvim.analysis.detection_report import report
from mmvim.commands import run_tool
from mmvim.commands.report import show_report


def in_table(found: dict[str, dict[str, float]]) -> Table:
    """AP50 of boxes and masks, before and after training."""
    table = Table('on held-out scenes', title='AP at an overlap of 0.5')
    for name in ('box', 'mask'):
        table.add_column(name, justify='right')
    for row, label in (('untrained', 'the same model, untrained'), ('trained', 'the trained model')):
        table.add_row(label, *(f'{found[row][name]:.3f}' for name in ('box', 'mask')))
    return table


if __name__ == '__main__':
    run_tool(lambda: show_report(__doc__, 'measuring AP50: untrained model, trained model', report, in_table))
