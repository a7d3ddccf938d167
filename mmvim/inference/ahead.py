"""Reading in a thread what is needed next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar('T')
_PATIENCE = 0.1  # seconds after which the thread looks whether anybody still waits for it


@contextmanager
def read_ahead(items: Iterable[T], most: int) -> Iterator[Iterator[T]]:
    """The same items in the same order, taken by a thread before they are asked for.

    An error of the source is raised where the item would have come. The thread has ended when the block is left,
    however that happens: what the items are read from can then be closed.

    Args:
        items: whatever takes time to come and leaves the interpreter free meanwhile, as files and decoders do.
        most: how many wait at a time.
    """
    waiting: Queue = Queue(most)
    stopped = Event()

    def put(entry: tuple[str, object]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(('item', item)):
                    return
            put(('end', None))
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            put(('error', error))

    def taken() -> Iterator[T]:
        while True:
            kind, value = waiting.get()
            if kind == 'end':
                return
            if kind == 'error':
                raise value
            yield value

    thread = Thread(target=work, name='read_ahead', daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        thread.join()
