"""What the page does when somebody uploads, chooses, clicks or moves something."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from html import escape
from pathlib import Path
from threading import Event, Lock
from time import perf_counter

import gradio as gr
import numpy as np

from mmvim.errors import UserValueError

from .inside import field_at, layers_of, outputs_of, walks_at
from .kept import Kept
from .legend import legend
from .offers import Offer, find_offers
from .picture import paint
from .seen import Seen, resized, shown_size
from .sentences import on_page, sentence
from .sources import Limits, fetch
from .viewer import Advance, Viewer, sampled

#: What the second list says where there is no second model.
NONE = 'none'
Shown = dict[str, Seen]
_PATIENCE = 60  # seconds


def _advancing(progress: gr.Progress, viewer: Viewer, stopped: Event) -> Advance:
    """Moves the bar of windows, until somebody stops it."""

    def advance(done: int, total: int) -> None:
        if stopped.is_set():
            raise UserValueError(f'stopped after {done} of {total} windows')
        progress((done, total), desc=f'{viewer.offer.label}: windows', unit='windows')

    return advance


class Handlers:
    """The page's side of everything.

    Args:
        work_dirs: Folder of the runs of ``tools/train.py``.
        folder: For files, temporary.
        limits: Of images.
        memory: Bytes that loaded models may take.
        device: As for :func:`mmvim.inference.build_inferencer`.
    """

    def __init__(self, work_dirs: Path, folder: Path, limits: Limits, memory: int, device: str | None) -> None:
        self._work_dirs = work_dirs
        self._folder = folder
        self._limits = limits
        self._kept = Kept(memory, lambda offer: self._load(offer, device))
        self._running: dict[str | None, Event] = {}
        self._at_work = Lock()
        self._ended = False

    def offers(self) -> dict[str, Offer]:
        """What can be chosen now: training may have added something."""
        return find_offers(self._work_dirs)

    @on_page
    def fetch(self, address: str) -> str:
        """An image from an address of this machine to its file."""
        return str(fetch(address, self._folder / 'fetched', self._limits))

    @on_page
    def show(self, file: str | None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """A new image, for the two tabs that look inside."""
        if file is None:
            return None, None
        image = self._opened(file)
        shown = np.ascontiguousarray(resized(image, shown_size(*image.shape[:2]))[..., ::-1])
        return shown, shown

    def describe(self, label: str | None) -> tuple:
        """Load a model: what it is, or why it cannot be loaded, and its outputs and layers to choose from."""
        try:
            with self._work():
                viewer = self._viewer(label)
                said, outputs, layers = viewer.describe(), outputs_of(viewer), layers_of(viewer)
            said = f'<div class="mm-note">{escape(said)}</div>'
        except Exception as error:  # noqa: BLE001  it stays on the page as long as the model is chosen
            said, outputs, layers = f'<div class="mm-warn">{sentence(error)}</div>', [], []
        return (
            said,
            gr.update(choices=outputs, value=outputs[0] if outputs else None),
            gr.update(choices=layers, value=layers[len(layers) // 2] if layers else None),
        )

    @on_page
    def look(
        self,
        file: str | None,
        label: str | None,
        second: str,
        threshold: float,
        opacity: float,
        windows: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this
    ) -> tuple:
        """Look at an image with one model, or with two."""
        path = self._checked(file)
        stopped = self._running[request.session_hash] = Event()
        shown: Shown = {}
        try:
            names = [label, second] if second != NONE else [label]
            with self._work():
                for name in dict.fromkeys(names):
                    viewer = self._viewer(name)
                    progress(0, desc=f'{name} is looking')
                    shown[viewer.offer.label] = viewer.look(path, windows, _advancing(progress, viewer, stopped))
        finally:
            self._running.pop(request.session_hash, None)
        return (shown, *self.draw(shown, threshold, opacity))

    @on_page
    def draw(self, shown: Shown, threshold: float, opacity: float) -> tuple:
        """The pictures and the legends of what was seen, without asking the models again."""
        if not shown:
            return gr.skip(), gr.skip(), gr.skip()
        pictures, legends = [], []
        for label, seen in shown.items():
            seen.times.pop('drawing', None)
            start = perf_counter()
            pictures.append(paint(seen, threshold, opacity))
            seen.times['drawing'] = perf_counter() - start
            legends.append(legend(label, seen, threshold))
        two = len(pictures) == 2
        return (
            gr.update(value=pictures[0], visible=not two),
            gr.update(value=tuple(pictures) if two else None, visible=two, label=' | '.join(shown)),
            f'<div class="mm-legends">{"".join(legends)}</div>',
        )

    def stop(self, request: gr.Request) -> None:
        """Let the windows of this visitor end, who asked for it or is gone."""
        if request.session_hash in self._running:
            self._running[request.session_hash].set()

    def end(self) -> None:
        """Stop all windows, and wait for what a model computes: its threads must not outlive Python."""
        self._ended = True
        for stopped in list(self._running.values()):
            stopped.set()
        if self._at_work.acquire(timeout=_PATIENCE):
            self._at_work.release()

    @contextmanager
    def _work(self) -> Iterator[None]:
        """While a model computes, which no other does then."""
        with self._at_work:
            if self._ended:
                raise UserValueError('the page is closed')
            yield

    @on_page
    def field(self, file: str | None, label: str | None, output: str | None, click: gr.SelectData) -> tuple:
        """The receptive field at a clicked pixel."""
        image = self._opened(file)
        height, width = shown_size(*image.shape[:2])  # what was clicked
        at = (click.index[1] + 0.5) / height, (click.index[0] + 0.5) / width
        with self._work():
            viewer = self._viewer(label)
            if output is None:
                raise UserValueError(f'{label} has no map, only a class token: choose another model')
            picture, said = field_at(viewer, image, output, at)
        return picture, f'<div class="mm-note">{escape(said)}</div>'

    @on_page
    def walks(self, file: str | None, label: str | None, layer: str | None) -> tuple:
        """What each walk contributes at a layer."""
        image = self._opened(file)
        with self._work():
            viewer = self._viewer(label)
            if layer is None:
                raise UserValueError(f'{label} has no layer that scans: choose another model')
            pictures, said = walks_at(viewer, image, layer)
        columns = 2 if len(pictures) <= 2 else 4
        return gr.update(value=pictures, columns=columns), f'<div class="mm-note">{escape(said)}</div>'

    def _viewer(self, label: str | None) -> Viewer:
        offers = self.offers()
        if label is None:
            raise UserValueError('choose a model first; with none on this machine, make demo trains one')
        if label not in offers:
            raise UserValueError(f'{label} is not there any more: load this page again')
        return self._kept.get(offers[label])

    @staticmethod
    def _load(offer: Offer, device: str | None) -> Viewer:
        with redirect_stdout(io.StringIO()):  # remarks of libraries when they are imported
            return Viewer(offer, device)

    def _checked(self, file: str | None) -> Path:
        if file is None:
            raise UserValueError('there is no image yet: upload one, or take an example')
        path = Path(file)
        if not path.is_file():
            raise UserValueError('files are kept for an hour, and this one is gone: upload it again')
        self._limits.check(path)
        return path

    def _opened(self, file: str | None) -> np.ndarray:
        """An image, BGR, very large ones sampled."""
        return sampled(self._checked(file))
