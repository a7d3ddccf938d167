"""Where the time of a long run goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Shares:
    """Seconds since it was made, by what they were spent on; ``str()`` gives all of them and the parts in percent."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._start = time.perf_counter()

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count the time until the end of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    def __str__(self) -> str:
        total = time.perf_counter() - self._start
        parts = [*self.seconds.items(), ('other', total - sum(self.seconds.values()))]
        return f'{total:.0f} s: ' + ', '.join(f'{part} {100 * seconds / total:.0f} %' for part, seconds in parts)
