"""Where files are looked for, and what is said when they are nowhere."""

import io
from email.message import Message
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest
import torch

from mmvim.catalogue import OFFICIAL_WEIGHTS
from mmvim.checkpoints import read
from mmvim.checkpoints.fetch import locate

NAME = 'vim_s_midclstok_80p5acc.pth'
ADDRESS = f'https://example.org/folder/{NAME}?download=true'


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'a': torch.ones(1)}, path)
    return path


class Answer(io.BytesIO):
    """What a server sends; without ``whole``, its connection breaks after a few bytes."""

    def __init__(self, content: bytes, whole: bool = True) -> None:
        super().__init__(content)
        self.whole = whole

    @property
    def headers(self) -> Message:
        message = Message()
        message['Content-Length'] = str(len(self.getvalue()))
        return message

    def read(self, *args: int) -> bytes:
        if self.whole:
            return super().read(*args)
        if self.tell():
            raise ConnectionResetError('connection reset')
        return super().read(4)


def serve(monkeypatch: pytest.MonkeyPatch, answer: Answer | None) -> list[str]:
    """Stand in for the network, which is down without an answer. Returns the list of addresses asked for."""
    asked = []

    def urlopen(request: Request, timeout: float) -> Answer:
        asked.append(request.full_url)
        if answer is None:
            raise URLError('no route to host')
        return answer

    monkeypatch.setattr('mmvim.checkpoints.download.urlopen', urlopen)
    return asked


def test_places_of_a_name() -> None:
    with pytest.raises(FileNotFoundError):
        locate('a.pth')
    save(Path('weights/a.pth'))
    assert locate('a.pth') == locate('weights/a.pth') == Path('weights/a.pth')
    save(Path('a.pth'))
    assert locate('a.pth') == Path('a.pth')
    with pytest.raises(FileNotFoundError):
        locate('work_dirs/run/a.pth')


def test_missing_official_file() -> None:
    with pytest.raises(FileNotFoundError) as error:
        read(f'weights/{NAME}')
    message = str(error.value)
    assert message.count('\n') == 0
    for part in (NAME, OFFICIAL_WEIGHTS[NAME], 'weights/', '--cfg-options model.backbone.init_cfg=None'):
        assert part in message


def test_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    asked = serve(monkeypatch, Answer(save(tmp_path / 'source.pth').read_bytes()))
    assert torch.equal(read(ADDRESS)['a'], torch.ones(1))
    assert torch.equal(read(ADDRESS)['a'], torch.ones(1))
    assert asked == [ADDRESS]
    assert [path.name for path in (tmp_path / 'hub' / 'checkpoints').iterdir()] == [NAME]
    assert f'downloading {ADDRESS}' in capsys.readouterr().err


def test_weights_folder_comes_before_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, None)
    save(Path('weights') / NAME)
    read(ADDRESS)
    assert not asked


def test_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(monkeypatch, None)
    with pytest.raises(FileNotFoundError) as error:
        read(ADDRESS)
    message = str(error.value)
    for part in (NAME, ADDRESS, 'no route to host', 'weights/', '--cfg-options model.backbone.init_cfg=None'):
        assert part in message
    assert not list((tmp_path / 'hub' / 'checkpoints').iterdir())


def test_broken_download_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(monkeypatch, Answer(bytes(100), whole=False))
    with pytest.raises(FileNotFoundError, match='connection reset'):
        read(ADDRESS)
    assert not list((tmp_path / 'hub' / 'checkpoints').iterdir())


@pytest.mark.parametrize(
    ('address', 'message'), [('https://example.org/', 'names no file'), ('s3://bucket/a.pth', 'only files and http')]
)
def test_other_addresses(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        locate(address)
