"""Every kernel once on small shapes, for compute-sanitizer to look at: the results are checked elsewhere.

python benchmarks/gpu/small.py cuda
"""

import itertools
import sys

import torch
from common import on, scan_case
from compare import evaluate

from mmvim.ops import Walks, scan, walk_conv, walks


def main(device: str) -> None:
    table = walks.from_table(torch.tensor([[3, -1, 0, 5, 1, -1], [-1, 2, 4, -1, -1, 0]]), 2, 3)
    orders = (walks.bidirectional(70), walks.cross(5, 7), walks.rows(33), Walks(3, 4, (1,)), table)
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    count = 0
    for (walk, states, rank), dtype in zip(
        itertools.product(orders, (1, 3, 4, 16), (None, 5)), itertools.cycle(dtypes)
    ):
        case = scan_case(walk, channels=33, d_state=states, rank=rank, z=rank is None, dtype=dtype,
                         merge='sum' if states > 1 else 'none')  # fmt: skip
        results = evaluate(scan, on(device, case))
        count += sum(bool(x.isfinite().all()) for x in results.values()) == len(results)
    # Long and narrow: few channels, so that the sequence is cut into segments.
    for states in (1, 16):
        case = scan_case(walks.bidirectional(700), batch=1, channels=8, d_state=states, dtype=torch.bfloat16)
        evaluate(scan, on(device, case))
    for walk, dtype, order in itertools.product(orders, dtypes, ('token', 'step')):
        x = torch.randn(2, walk.num_tokens, 33, dtype=dtype, device=device)
        weight, bias = torch.randn(walk.num_walks, 33, 4, device=device), torch.randn(walk.num_walks, 33, device=device)
        evaluate(walk_conv, {'x': x, 'weight': weight, 'bias': bias, 'walks': walk, 'order': order})
    if device == 'cuda':
        torch.cuda.synchronize()
    print(f'{count} of {len(orders) * 8} scans gave finite results')
    if count < len(orders) * 8:
        sys.exit('a result is not finite')


if __name__ == '__main__':
    main(sys.argv[1])
