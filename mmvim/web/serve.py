"""Serving the page to this machine, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmvim.errors import UserModuleNotFoundError, UserOSError

from .sources import PREFIX, Limits, draw_examples

HOST = '127.0.0.1'
_PORTS = 100  # that are tried, from the first on
_VISITORS = 16  # whose results are kept

# The page is of this machine alone: a browser is told to fetch nothing from elsewhere.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)


class _Policy:
    """Adds the policy to every answer."""

    def __init__(self, app: Callable) -> None:
        self._app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message['type'] == 'http.response.start':
                headers = [*message['headers'], (b'content-security-policy', _POLICY.encode())]
                message = {**message, 'headers': headers}
            await send(message)

        await self._app(scope, receive, sending)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder for everything that is written; gradio is told of it before it is imported.

    Settings of gradio in the environment are taken out: the page is what its command line says.
    """
    for name in [name for name in os.environ if name.startswith('GRADIO_')]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        tempfile.tempdir = folder  # the caches of libraries, as of matplotlib
        os.environ.update(
            GRADIO_TEMP_DIR=folder, MPLCONFIGDIR=folder, GRADIO_ANALYTICS_ENABLED='False', HF_HUB_OFFLINE='1'
        )
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = None


def free_port(first: int) -> int:
    """The first port from ``first`` on that nobody listens at.

    Raises:
        OSError: If there is none among the next hundred.
    """
    last = min(first + _PORTS - 1, 65535)
    for port in range(first, last + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UserOSError(f'all ports from {first} to {last} are in use or forbidden: choose another one with --port')


def _demand_gradio() -> None:
    if find_spec('gradio') is None:
        raise UserModuleNotFoundError(
            "the page needs gradio, which is not installed: pip install -c constraints.txt -e '.[web]'"
        )


def serve(
    port: int,
    work_dirs: Path,
    limits: Limits,
    memory: int,
    device: str | None,
    say: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        port: The first that is tried.
        work_dirs: Folder of the runs of ``tools/train.py``.
        limits: Of images.
        memory: Bytes that loaded models may take.
        device: As for :func:`mmvim.inference.build_inferencer`.
        say: Is told where the page is.

    Raises:
        ModuleNotFoundError: If gradio is not installed.
        OSError: If there is no free port.
    """
    _demand_gradio()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with private_folder() as folder:
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from .handlers import Handlers
        from .page import build_page
        from .style import CSS, theme

        taken = free_port(port)
        if taken != port:
            say(f'port {port} is in use: {taken} is taken instead')
        handlers = Handlers(work_dirs, folder, limits, memory, device)
        page = build_page(handlers, draw_examples(folder))
        # A page elsewhere that gives itself this machine's address is turned away by its name.
        guards = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, 'localhost']), Middleware(_Policy)]
        page.launch(
            server_name=HOST,
            server_port=taken,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=limits.bytes,
            state_session_capacity=_VISITORS,
            allowed_paths=[str(folder)],
            app_kwargs={'middleware': guards, 'docs_url': None, 'redoc_url': None, 'openapi_url': None},
            theme=theme(),
            css=CSS,
        )
        say(f'the page is at http://{HOST}:{taken}  (Ctrl-C ends it)')
        try:
            ended.wait()
        finally:
            handlers.end()
            page.close(verbose=False)
    say('the page is closed; its temporary files are removed')
