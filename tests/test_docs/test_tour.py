"""docs/tour.ipynb runs from the files that `make demo` leaves, here of a few images; and it is a notebook."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import Config

from mmvim.miniature.data_sets import ensure_miniature
from mmvim.models.build import build_untrained

REPOSITORY = Path(__file__).parents[2]
TOUR = REPOSITORY / 'docs/tour.ipynb'
RUN = Path('work_dirs/upernet_vim_t_miniature')


def test_cells_run_in_a_fresh_place(tmp_path: Path) -> None:
    """All cells as they stand, one after the other in a process of their own."""
    (tmp_path / 'configs').symlink_to(REPOSITORY / 'configs')
    ensure_miniature('ade20k', tmp_path / 'data/ade_miniature', train=4, val=2, size=(128, 128), progress=False)
    cfg = Config.fromfile(REPOSITORY / 'configs/demo/upernet_vim_t_miniature.py')
    torch.manual_seed(0)
    (tmp_path / RUN).mkdir(parents=True)
    torch.save({'state_dict': build_untrained(cfg.model, 'mmseg').state_dict()}, tmp_path / RUN / 'iter_200.pth')
    (tmp_path / RUN / 'last_checkpoint').write_text(str(RUN / 'iter_200.pth'))
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs/tour.ipynb').write_text(TOUR.read_text())
    command = [sys.executable, Path(__file__).with_name('notebook.py'), 'tour.ipynb', '--write']
    environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY)}
    result = subprocess.run(command, cwd=tmp_path / 'docs', env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]

    told = {
        cell['execution_count']: ''.join(text for shown in cell['outputs'] for text in shown.get('text', ()))
        for cell in json.loads((tmp_path / 'docs/tour.ipynb').read_text())['cells']
        if cell['cell_type'] == 'code'
    }
    assert '336 of 336 model tensors matched' in told[2]
    assert 'Vim, 200 iterations: mIoU' in told[6] and 'VMamba, 10 iterations: mIoU' in told[6]
    assert 'the same class at 100.00 % of the pixels' in told[8]


def test_what_is_stored() -> None:
    """Every cell was run, in order, its pictures are there, and all of it is small; its links lead somewhere."""
    notebook = json.loads(TOUR.read_text())
    assert notebook['nbformat'] == 4
    codes = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    assert [cell['execution_count'] for cell in codes] == list(range(1, len(codes) + 1))
    pictures = [shown for cell in codes for shown in cell['outputs'] if 'image/png' in shown.get('data', ())]
    assert len(pictures) == 3
    assert TOUR.stat().st_size < 400_000
    text = ''.join(line for cell in notebook['cells'] if cell['cell_type'] == 'markdown' for line in cell['source'])
    links = [part.partition(')')[0] for part in text.split('](')[1:]]
    assert links and all((TOUR.parent / link).is_file() for link in links)
