"""Run a benchmark by the name that it had in tools/benchmark; the next release will not have these names."""

import os
import sys
from pathlib import Path

name = Path(sys.argv[0]).name
print(f'tools/benchmark/{name} is benchmarks/{name} now', file=sys.stderr)
os.execv(sys.executable, [sys.executable, str(Path(__file__).parents[2] / 'benchmarks' / name), *sys.argv[1:]])
