"""Where images come from, and how much of them is taken: uploads, addresses of this machine, drawn examples."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener
from uuid import uuid4

import cv2
import numpy as np

from mmvim.errors import UserValueError
from mmvim.inference.images import count_pixels
from mmvim.inference.write import write_image
from mmvim.miniature.scenes import render_scene

#: Of the name of the temporary folder.
PREFIX = 'mmvim-web-'
_TIMEOUT = 10  # seconds without a byte


@dataclass(frozen=True)
class Limits:
    """What is taken at most.

    Attributes:
        bytes: Of a file.
        pixels: Of an image, height times width.
    """

    bytes: int
    pixels: int

    def check(self, path: Path) -> None:
        """See that a file is an image within the limits, by its header alone.

        Raises:
            ValueError: If it is not; the name in the sentence is that of the file, without its folder.
        """
        size = path.stat().st_size
        if size > self.bytes:
            raise UserValueError(f'{path.name} has {size / 2**20:.0f} MB, and {self._said()}')
        try:
            pixels = count_pixels(path)
        except ValueError as error:
            raise UserValueError(str(error).replace(str(path), path.name)) from error
        if pixels > self.pixels:
            raise UserValueError(f'{path.name} has {pixels / 1e6:.0f} megapixels, and {self._said()}')

    def _said(self) -> str:
        return (
            f'this page takes {self.bytes / 2**20:.0f} MB and {self.pixels / 1e6:.0f} megapixels (tools/web.py --help)'
        )


class _Redirects(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # noqa: ANN001, ANN201  urllib's signature
        check_local(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_local(address: str) -> None:
    """See that an address is one of this machine.

    Raises:
        ValueError: If it is another machine's, or no address at all.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ''
    except ValueError:
        raise UserValueError(f'{address} is no address: expected one such as http://127.0.0.1:8000/image.png') from None
    if parts.scheme not in ('http', 'https') or not host:
        raise UserValueError(f'{address} is no address: expected one such as http://127.0.0.1:8000/image.png')
    if host != 'localhost' and not _is_loopback(host):
        raise UserValueError(
            f'{host} is another machine: this page fetches from 127.0.0.1 and localhost alone; save the image and '
            'upload it'
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fetch(address: str, folder: Path, limits: Limits) -> Path:
    """Fetch an image from this machine.

    Args:
        address: ``http(s)://`` on 127.0.0.1 or localhost; redirections are followed within this machine.
        folder: Where the file is put, under a name of its own.
        limits: What is taken.

    Raises:
        ValueError: If it is another machine's, does not answer, is too large or no image.
    """
    address = address.strip()
    check_local(address)
    opener = build_opener(ProxyHandler({}), _Redirects)  # a proxy would be another machine
    try:
        with opener.open(Request(address, headers={'User-Agent': 'mmvim'}), timeout=_TIMEOUT) as answer:
            content = answer.read(limits.bytes + 1)
    except HTTPError as error:
        raise UserValueError(f'{address} answers {error.code} {error.reason}') from error
    except (URLError, OSError) as error:
        raise UserValueError(f'{address} does not answer ({getattr(error, "reason", error)})') from error
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{uuid4().hex}{Path(urlsplit(address).path).suffix[:8]}'
    path.write_bytes(content)
    try:
        limits.check(path)
    except ValueError as error:
        path.unlink()
        raise UserValueError(str(error).replace(path.name, address)) from error
    return path


def draw_examples(folder: Path) -> Sequence[Path]:
    """Images that are always there: scenes of the miniatures, which no model was trained on."""
    sizes = ((128, 128), (128, 128), (128, 128), (256, 384))
    paths = []
    for number, (height, width) in enumerate(sizes):
        scene = render_scene(np.random.default_rng([7, number]), height, width)
        paths.append(folder / f'scene_{number + 1}.png')
        write_image(paths[-1], cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
    return paths
