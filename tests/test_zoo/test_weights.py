"""Weights of the zoo: found, downloaded whole or not at all, and known again by their checksums."""

import hashlib
import io
import json
from dataclasses import replace
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request

import pytest

from mmvim.catalogue import MODELS, find
from mmvim.checkpoints.download import download
from mmvim.zoo.weights import CHECKSUMS, Weights

VIM = find(MODELS, 'vim_t_imagenet')
CONTENT = bytes(range(256)) * 10
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Answer(io.BytesIO):
    """What a server sends: ``length`` is what it announces."""

    def __init__(self, content: bytes, length: int | None) -> None:
        super().__init__(content)
        self.headers = Message()
        if length is not None:
            self.headers['Content-Length'] = str(length)


def serve(monkeypatch: pytest.MonkeyPatch, *answers: Answer | Exception) -> list[str]:
    """Stand in for the network; returns the list of addresses asked for."""
    asked, waiting = [], list(answers)

    def urlopen(request: Request, timeout: float) -> Answer:
        asked.append(request.full_url)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr('mmvim.checkpoints.download.urlopen', urlopen)
    return asked


def whole() -> Answer:
    return Answer(CONTENT, len(CONTENT))


def test_downloaded_once_and_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, whole())
    weights = Weights(tmp_path / 'weights')
    path, digest = weights.obtain(VIM)
    assert path.read_bytes() == CONTENT and digest == DIGEST
    assert weights.obtain(VIM) == (path, digest)
    assert asked == [VIM.weights.address]
    recorded = json.loads((tmp_path / 'weights' / CHECKSUMS).read_text())[VIM.weights.name]
    assert (recorded['sha256'], recorded['bytes']) == (DIGEST, len(CONTENT))
    path.write_bytes(CONTENT[:100])
    with pytest.raises(ValueError, match=f'damaged or another file.*recorded when it was downloaded is {DIGEST}'):
        weights.obtain(VIM)


def test_second_download_keeps_the_first_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = find(MODELS, 'vim_s_imagenet')
    serve(monkeypatch, whole(), whole())
    for model in (VIM, other):
        Weights(tmp_path).obtain(model)
    assert set(json.loads((tmp_path / CHECKSUMS).read_text())) == {VIM.weights.name, other.weights.name}


@pytest.mark.parametrize('right', [True, False])
def test_published_checksum(tmp_path: Path, right: bool) -> None:
    model = replace(VIM, weights=replace(VIM.weights, sha256=DIGEST if right else '0' * 64))
    (tmp_path / VIM.weights.name).write_bytes(CONTENT)
    if right:
        assert Weights(tmp_path).obtain(model)[1] == DIGEST
        return
    with pytest.raises(ValueError, match=f'its SHA-256 is {DIGEST}, published is 0000'):
        Weights(tmp_path).obtain(model)


def test_file_of_ones_own_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch)
    (tmp_path / VIM.weights.name).write_bytes(CONTENT)
    assert Weights(tmp_path).obtain(VIM)[0].name == VIM.weights.name
    (tmp_path / 'vim_t_imagenet.pth').write_bytes(b'mine')
    assert Weights(tmp_path).obtain(VIM)[0].name == 'vim_t_imagenet.pth'
    dense = find(MODELS, 'upernet_vim_t_ade20k')
    assert not Weights(tmp_path).has(dense)
    with pytest.raises(FileNotFoundError, match='no weights of upernet_vim_t_ade20k were published: put your own into'):
        Weights(tmp_path).obtain(dense)
    (tmp_path / 'upernet_vim_t_ade20k.pth').write_bytes(b'mine')
    assert Weights(tmp_path).has(dense)
    assert not asked


@pytest.mark.parametrize(
    ('answer', 'message'),
    [
        (Answer(CONTENT[:100], len(CONTENT)), 'broke after 100 of 2560 bytes'),
        (URLError('no route to host'), 'huggingface.co cannot be reached .no route to host.*download it from'),
        (TimeoutError('timed out'), 'cannot be reached .timed out'),
        (HTTPError(VIM.weights.address, 404, 'Not Found', Message(), None), 'answers 404 Not Found: download it from'),
    ],
)
def test_nothing_is_left_of_a_broken_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer, message: str
) -> None:
    serve(monkeypatch, answer)
    with pytest.raises(FileNotFoundError, match=message):
        Weights(tmp_path).obtain(VIM)
    assert not list(tmp_path.iterdir())


def test_connection_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = whole()
    answer.read = lambda size: (_ for _ in ()).throw(ConnectionResetError('reset by peer'))
    serve(monkeypatch, answer)
    with pytest.raises(URLError, match='broke after 0 bytes .reset by peer'):
        download(VIM.weights.address, tmp_path / 'a.pth')
    assert not list(tmp_path.iterdir())


def test_length_that_nobody_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Answer(CONTENT, None))
    assert download(VIM.weights.address, tmp_path / 'a.pth') == (DIGEST, len(CONTENT))


def test_a_host_out_of_reach_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, URLError('no route to host'), whole())
    weights = Weights(tmp_path)
    for name in ('vim_t_imagenet', 'vim_s_imagenet'):
        with pytest.raises(FileNotFoundError, match=r'huggingface\.co cannot be reached'):
            weights.obtain(find(MODELS, name))
    weights.obtain(find(MODELS, 'vmamba_t_imagenet'))  # of another host
    assert len(asked) == 2


def test_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch)
    with pytest.raises(FileNotFoundError, match='leave --no-download out'):
        Weights(tmp_path, download=False).obtain(VIM)
    assert not asked


def test_terms_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a file is downloaded that is not for everybody, and in the list of models."""
    limited = [model for model in MODELS if model.family == 'MambaVision']
    assert all('not for commercial use' in model.weights.terms for model in limited)
    serve(monkeypatch, whole(), whole())
    Weights(tmp_path).obtain(limited[0])
    assert f'{limited[0].weights.name}: {limited[0].weights.terms}' in capsys.readouterr().err
    Weights(tmp_path).obtain(VIM)
    assert 'commercial' not in capsys.readouterr().err
    rows = (Path(__file__).parents[2] / 'docs' / 'model_zoo.md').read_text().splitlines()
    assert sum('not for commercial use |' in row for row in rows) == len(limited) == 12
