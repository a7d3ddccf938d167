"""What the page does when somebody uploads, chooses, clicks or moves something."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from html import escape
from pathlib import Path
from time import perf_counter as _now
from typing import Any

import gradio as gr
import numpy as np

from mmvim.engine.oom import is_out_of_memory
from mmvim.errors import UserError, UserValueError

from .inside import field_at, layers_of, outputs_of, walks_at
from .kept import Kept
from .legend import legend
from .offers import Offer, find_offers
from .picture import paint
from .seen import Seen
from .sources import Limits, fetch
from .viewer import Viewer, sampled

#: What the second list says where there is no second model.
NONE = 'none'
Shown = dict[str, Seen]


def sentence(error: Exception) -> str:
    """What the page says of an error, as HTML."""
    text = ' '.join(str(error).split())
    if is_out_of_memory(error):
        text = 'this needs more memory than there is: take a smaller image or a smaller model'
    elif not isinstance(error, (UserError, ValueError, OSError)):
        text = f'{type(error).__name__}: {text}'
    return escape(text)


def on_page(handler: Callable) -> Callable:
    """Turn errors into sentences on the page; what nobody foresaw is printed in the terminal as well."""

    @wraps(handler)
    def handled(*arguments: Any, **options: Any) -> Any:
        try:
            return handler(*arguments, **options)
        except Exception as error:  # noqa: BLE001  whatever it is, the page goes on
            if not isinstance(error, UserError):
                traceback.print_exc()
            raise gr.Error(sentence(error), duration=None, title='That did not work', print_exception=False) from error

    return handled


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
        self._stopped: set[str | None] = set()

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
        shown = np.ascontiguousarray(self._opened(file)[..., ::-1])
        return shown, shown

    @on_page
    def describe(self, label: str | None) -> tuple:
        """Load a model: what it is, and its outputs and layers to choose from."""
        viewer = self._viewer(label)
        outputs, layers = outputs_of(viewer), layers_of(viewer)
        return (
            f'<div class="mm-note">{escape(viewer.describe())}</div>',
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
        self._stopped.discard(request.session_hash)
        shown: Shown = {}
        for name in dict.fromkeys([label, second] if second != NONE else [label]):
            viewer = self._viewer(name)

            def advance(done: int, total: int, name: str | None = name) -> None:
                if request.session_hash in self._stopped:
                    raise UserValueError(f'stopped after {done} of {total} windows')
                progress((done, total), desc=f'{name}: windows', unit='windows')

            progress(0, desc=f'{name} is looking')
            shown[viewer.offer.label] = viewer.look(path, windows, advance)
        return (shown, *self.draw(shown, threshold, opacity))

    @on_page
    def draw(self, shown: Shown, threshold: float, opacity: float) -> tuple:
        """The pictures and the legends of what was seen, without asking the models again."""
        if not shown:
            return gr.skip(), gr.skip(), gr.skip()
        pictures, legends = [], []
        for label, seen in shown.items():
            seen.times.pop('drawing', None)
            start = _now()
            pictures.append(paint(seen, threshold, opacity))
            seen.times['drawing'] = _now() - start
            legends.append(legend(label, seen, threshold))
        two = len(pictures) == 2
        return (
            gr.update(value=pictures[0], visible=not two),
            gr.update(value=tuple(pictures) if two else None, visible=two, label=' | '.join(shown)),
            f'<div class="mm-legends">{"".join(legends)}</div>',
        )

    def stop(self, request: gr.Request) -> None:
        """Let the windows of this visitor end, who asked for it or is gone."""
        self._stopped.add(request.session_hash)

    @on_page
    def field(self, file: str | None, label: str | None, output: str | None, click: gr.SelectData) -> tuple:
        """The receptive field at a clicked pixel."""
        image = self._opened(self._checked(file))
        viewer = self._viewer(label)
        if output is None:
            raise UserValueError(f'{viewer.offer.label} has no map, only a class token: choose another model')
        at = (click.index[1] + 0.5) / image.shape[0], (click.index[0] + 0.5) / image.shape[1]
        picture, said = field_at(viewer, image, output, at)
        return picture, f'<div class="mm-note">{escape(said)}</div>'

    @on_page
    def walks(self, file: str | None, label: str | None, layer: str | None) -> tuple:
        """What each walk contributes at a layer."""
        image = self._opened(self._checked(file))
        viewer = self._viewer(label)
        if layer is None:
            raise UserValueError(f'{viewer.offer.label} has no layer that scans: choose another model')
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
        self._limits.check(path)
        return path

    def _opened(self, file: str | Path) -> np.ndarray:
        """An image in the size that is shown, BGR."""
        path = self._checked(str(file))
        try:
            return sampled(path)
        except ValueError as error:
            raise UserValueError(str(error).replace(str(path), path.name)) from error
