"""The models' table of docs/performance.md, fp32 and bf16 side by side, ours and the peer taking turns in one process.

    python benchmarks/tables.py [PART ...] [--seconds 20] [--out work_dirs/benchmarks] [--write]

    for part in $(python benchmarks/tables.py --list); do python benchmarks/tables.py $part; done     # in pieces
    python benchmarks/tables.py --write                                                             # then the document

Every part leaves a JSON of its own, so that they can be run one by one; without a PART all are. A part takes about
``--seconds``, or two rounds where these take longer, and its start: all of them together about six minutes on two
cores, the longest about 80 seconds. ``--write`` puts what is there, from whichever runs, into the document; with parts,
they are run first. Weights are random: time does not depend on them.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from vmamba import ROOT, SWIN, build_swin

from mmvim.analysis.deit import DeiT
from mmvim.analysis.measure import in_child, machine
from mmvim.engine.cpu import keep_freed_memory
from mmvim.files import write_whole
from mmvim.markdown import markdown_table
from mmvim.models import Vim, VMamba

DOCUMENT = ROOT / 'docs' / 'performance.md'
BEGIN, END = '<!-- tables.py: begin -->', '<!-- tables.py: end -->'


class Part(NamedTuple):
    """One row: two models on ``batch`` square images."""

    ours: str
    peer: str
    size: int
    batch: int = 1
    train: bool = False

    @property
    def name(self) -> str:
        return f'{self.ours}_{self.batch}x{self.size}{"_train" if self.train else ""}'


PARTS = {
    part.name: part
    for part in (
        *(Part('vmamba', 'swin', size) for size in (224, 512, 800)),
        Part('vmamba', 'swin', 512, 2, True),
        *(Part('vim', 'deit', size) for size in (512, 1024, 1248, 2048)),
        *(Part('vim', 'deit', size, batch, True) for size, batch in ((224, 8), (512, 2), (1024, 1))),
        Part('upernet_vmamba', 'upernet_swin', 512),
    )
}
TITLES = {
    'vmamba': 'VMamba-T', 'swin': 'Swin-T', 'vim': 'Vim-Ti', 'deit': 'DeiT-Ti, SDPA',
    'upernet_vmamba': 'UPerNet + VMamba-T', 'upernet_swin': 'UPerNet + Swin-T',
}  # fmt: skip


def _upernet(swin: bool) -> nn.Module:
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/vmamba/upernet_vmamba_t_ade20k.py')
    cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor = None
    if swin:
        import mmdet.models  # noqa: F401  registers Swin as the benchmark of detectors takes it

        cfg.merge_from_dict({'model': {'backbone': SWIN}})
    return MODELS.build(cfg.model)


def build(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    builders: dict[str, Callable[[], nn.Module]] = {
        'vmamba': partial(VMamba, 'tiny'),
        'swin': build_swin,
        'vim': partial(Vim, 'tiny', pretrain_img_size=size),
        'deit': partial(DeiT, 192, (size, size), fused=True),
        'upernet_vmamba': partial(_upernet, False),
        'upernet_swin': partial(_upernet, True),
    }
    return builders[name]()


def measure(part: Part, seconds: float) -> dict[str, float]:
    """Best seconds of ours and the peer in fp32 and under bf16 autocast, by turns; meant for a fresh process."""
    keep_freed_memory()
    image = torch.randn(part.batch, 3, part.size, part.size)
    models = {who: build(name, part.size) for who, name in (('ours', part.ours), ('peer', part.peer))}
    for model in models.values():
        model.train(part.train)

    def call(model: nn.Module, bf16: bool) -> float:
        start = time.perf_counter()
        with torch.set_grad_enabled(part.train), torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            outs = model(image)
        if part.train:
            loss: Tensor = sum(out.float().square().mean() for out in outs)
            loss.backward()
            model.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    turns = [(f'{who} {"bf16" if bf16 else "fp32"}', model, bf16) for bf16 in (False, True)
             for who, model in models.items()]  # fmt: skip
    best = dict.fromkeys((name for name, _, _ in turns), float('inf'))
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 2 or time.perf_counter() < end:
        for name, model, bf16 in turns:
            best[name] = min(best[name], call(model, bf16))
        rounds += 1
    return best


def table(results: dict[str, dict]) -> str:
    """A row for every part that was measured."""
    columns = ['what', 'against', *(f'{kind}: {x}' for kind in ('fp32', 'bf16') for x in ('ours', 'peer', 'ratio'))]
    rows = []
    for name, part in PARTS.items():
        if name not in results:
            continue
        best, what = results[name]['best'], 'forward + backward' if part.train else 'inference'
        row = [f'{TITLES[part.ours]}, {part.batch} x {part.size}, {what}', TITLES[part.peer]]
        for kind in ('fp32', 'bf16'):
            mine, other = best[f'ours {kind}'], best[f'peer {kind}']
            row += [f'{mine:.3g} s', f'{other:.3g} s', f'{other / mine:.2f}x']
        rows.append(row)
    return markdown_table(columns, rows)


def renew(document: str, results: dict[str, dict]) -> str:
    """The document with this table, and the machine, between its marks.

    Raises:
        ValueError: If the document has not both marks.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f'no place for the table: expected the lines {BEGIN} and {END}')
    # One line for a machine, whatever its load in front of each part.
    abouts = ({k: v for k, v in x['machine'].items() if k != 'load before the run'} for x in results.values())
    machines = sorted({'; '.join(f'{k}: {v}' for k, v in about.items()) for about in abouts})
    return f'{before}{BEGIN}\n{table(results)}\n{chr(10).join(machines)}\n{END}{after}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('parts', nargs='*', metavar='PART', help='rows of the table, see --list; all by default')
    parser.add_argument('--list', action='store_true', help='print the names of the parts')
    parser.add_argument('--seconds', type=float, default=20.0, help='time of a part')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='folder for the results')
    parser.add_argument('--write', action='store_true', help='put the table into docs/performance.md')
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f'no part is called {", ".join(sorted(unknown))}: expected some of {", ".join(PARTS)}')
    if args.list:
        print(*PARTS)
        return
    for name in args.parts or ([] if args.write else PARTS):
        best = in_child(measure, PARTS[name], args.seconds)
        result = json.dumps({'best': best, 'machine': machine()}, indent=2) + '\n'
        write_whole(args.out / f'table_{name}.json', result)
        print(name, {key: round(value, 4) for key, value in best.items()}, flush=True)
    results = {
        name: json.loads(path.read_text()) for name in PARTS if (path := args.out / f'table_{name}.json').exists()
    }
    print(table(results))
    if args.write:
        write_whole(DOCUMENT, renew(DOCUMENT.read_text(), results))


if __name__ == '__main__':
    main()
