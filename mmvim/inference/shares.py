"""Where the time of a long run goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Shares:
    """Seconds by what they were spent on; ``str()`` gives the sum and the parts of it in percent."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count the time until the end of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    def __str__(self) -> str:
        total = max(sum(self.seconds.values()), 1e-9)
        parts = ', '.join(f'{part} {100 * seconds / total:.0f} %' for part, seconds in self.seconds.items())
        return f'{total:.0f} s: {parts}'
