"""The parts of the page that need no browser."""

import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from mmvim.catalogue import MODELS
from mmvim.commands.web import main
from mmvim.web import serve
from mmvim.web.kept import Kept
from mmvim.web.legend import legend
from mmvim.web.offers import DEMO, Offer, find_offers
from mmvim.web.picture import paint
from mmvim.web.seen import LARGEST, SMALLEST, Objects, Ranking, Segments, objects, segments, shown_size
from mmvim.web.sources import Limits, check_local, draw_examples, fetch

LIMITS = Limits(100_000, 10_000)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and a hub folder of torch that is empty too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path


def test_without_any_weights_the_demo_is_offered_and_says_how_it_is_made(place: Path) -> None:
    offers = find_offers(Path('work_dirs'))
    first = next(iter(offers.values()))
    assert first.label == f'{DEMO} · not trained yet'
    assert 'make demo' in first.missing
    assert len(offers) == len(MODELS) + 1
    assert all(offer.missing for offer in offers.values())


def test_what_is_on_this_machine_comes_first_the_newest_checkpoint_in_front(place: Path) -> None:
    for name, time in {'iter_1.pth': 10, 'iter_2.pth': 20}.items():
        path = Path('work_dirs', DEMO, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

        os.utime(path, (time, time))
    Path('work_dirs', DEMO, f'{DEMO}.py').touch()
    Path('work_dirs/bare').mkdir()
    Path('work_dirs/bare/iter_1.pth').touch()
    Path('work_dirs/empty').mkdir()
    Path('weights').mkdir()
    published = next(model for model in MODELS if model.name == 'vim_s_imagenet')
    Path('weights', published.weights.name).touch()

    offers = find_offers(Path('work_dirs'))
    usable = [offer for offer in offers.values() if offer.missing is None]
    assert list(offers.values())[: len(usable)] == usable
    assert [offer.label for offer in usable] == [
        f'{DEMO} / iter_2.pth', f'{DEMO} / iter_1.pth', 'vim_s_imagenet · Vim-S, classifier'
    ]  # fmt: skip
    assert usable[0].config == f'work_dirs/{DEMO}/{DEMO}.py'
    assert usable[2].weights == f'weights/{published.weights.name}'
    assert 'put the config' in offers['bare / iter_1.pth · no config'].missing
    assert not any('not trained yet' in label for label in offers)


def test_models_make_room_for_the_one_that_is_used(place: Path) -> None:
    sizes = {'a': 60, 'b': 30, 'c': 50, 'huge': 101}
    offers = {name: Offer(name, name) for name in sizes}
    loaded = []

    def load(offer: Offer) -> SimpleNamespace:
        loaded.append(offer.label)
        return SimpleNamespace(offer=offer, bytes=sizes[offer.label])

    kept = Kept(100, load)
    for name in ('a', 'b', 'a', 'c'):  # b was not used for longest, and alone it is not enough
        assert kept.get(offers[name]).offer.label == name
    assert loaded == ['a', 'b', 'c']
    assert kept.bytes == 50
    kept.get(offers['b'])
    kept.get(offers['c'])
    assert loaded == ['a', 'b', 'c', 'b']
    with pytest.raises(ValueError, match=r'huge takes .* --memory GB'):
        kept.get(offers['huge'])
    assert kept.bytes == 80


@pytest.mark.parametrize(
    'address', ['http://127.0.0.1:1/a', 'https://localhost/a', 'http://[::1]/a', 'http://127.9.9.9/']
)
def test_addresses_of_this_machine(address: str) -> None:
    check_local(address)


@pytest.mark.parametrize(
    'address',
    [
        'http://192.0.2.1/a', 'http://example.org/a', 'http://localhost.example.org/a', 'http://127.0.0.1@example.org/a',
        'http://127.0.0.1.example.org/', 'http://0.0.0.0/a', 'http://2130706433/', 'http://[::ffff:192.0.2.1]/',
        'file:///etc/passwd', 'ftp://127.0.0.1/a', 'scene.png', '', 'http://[', 'http:///a',
    ],
)  # fmt: skip
def test_other_addresses(address: str) -> None:
    with pytest.raises(ValueError, match='is another machine|is no address'):
        check_local(address)


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[str]:
    """A server on this machine."""
    Image.fromarray(np.full((20, 30, 3), 7, np.uint8)).save(tmp_path / 'x.png')
    answers = {
        '/x.png': (tmp_path / 'x.png').read_bytes(), '/text.png': b'no image', '/long.png': bytes(LIMITS.bytes + 1)
    }  # fmt: skip
    targets = {'/here': '/x.png', '/away': 'http://192.0.2.1/x.png', '/file': 'file:///etc/passwd'}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  its name in http.server
            self.send_response(302 if self.path in targets else 200 if self.path in answers else 404)
            if self.path in targets:
                self.send_header('Location', targets[self.path])
            self.end_headers()
            self.wfile.write(answers.get(self.path, b''))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_fetching(neighbour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirections too stay on this machine, a proxy is not asked, and what is refused is not kept."""
    monkeypatch.setenv('http_proxy', 'http://192.0.2.1:1')
    folder = tmp_path / 'fetched'
    for path in ('/x.png', '/here'):
        found = fetch(f' {neighbour}{path} ', folder, LIMITS)
        assert np.array(Image.open(found)).shape == (20, 30, 3)
        found.unlink()
    for path, sentence in {
        '/away': '192.0.2.1 is another machine', '/file': 'answers 302',
        '/text.png': 'text.png cannot be read',
        '/long.png': 'has 0 MB, and this page takes', '/none': 'answers 404',
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            fetch(neighbour + path, folder, LIMITS)
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        with pytest.raises(ValueError, match='does not answer'):
            fetch(f'http://127.0.0.1:{closed.getsockname()[1]}/x.png', folder, LIMITS)
    assert list(folder.iterdir()) == []


def test_limits_are_held_against_the_header_alone(tmp_path: Path) -> None:
    Image.new('1', (5000, 5000)).save(tmp_path / 'wide.png')
    with pytest.raises(ValueError, match=r'^wide\.png has 25 megapixels, and this page takes 0 MB and 0 megapixels'):
        LIMITS.check(tmp_path / 'wide.png')
    (tmp_path / 'x.png').write_text('none')
    with pytest.raises(ValueError, match=r'^x\.png cannot be read as an image \(of no known kind\)$'):
        LIMITS.check(tmp_path / 'x.png')


def test_examples_are_always_the_same(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw_examples(tmp_path)]
    assert first == [path.read_bytes() for path in draw_examples(tmp_path)]
    assert len(set(first)) == len(first) == 4


@pytest.mark.parametrize(
    ('size', 'shown'), [((10, 20), (256, SMALLEST)), ((600, 800), (600, 800)), ((9, 4000), (3, LARGEST))]
)
def test_sizes_that_are_shown(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_size(*size) == shown


GREY = np.full((300, 400, 3), 100, np.uint8)
TWO = {'image': GREY, 'classes': ['sky', 'a <b> & c'], 'palette': [(250, 0, 0), (0, 0, 250)], 'times': {'model': 0.25}}


def test_segments_are_drawn_and_counted() -> None:
    labels = np.zeros((30, 40), np.int64)
    labels[:, 30:] = 1
    seen = segments(labels, **TWO)
    assert isinstance(seen, Segments)
    assert seen.counts.tolist() == [900, 300]
    half = paint(seen, 0.3, 0.5)
    assert half[290, 10].tolist() == [175, 50, 50]
    assert half[290, 390].tolist() == [50, 50, 175]
    np.testing.assert_array_equal(paint(seen, 0.3, 0.0), GREY)
    text = legend('x & y', seen, 0.3)
    assert '75.0 %' in text and '300 px' in text and 'model 250 ms' in text
    assert '<h4>x &amp; y</h4>' in text and 'a &lt;b&gt; &amp; c' in text and '<b>' not in text


def test_objects_above_the_threshold_are_drawn_and_counted() -> None:
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 20, 15], [20, 15, 40, 30]]), scores=torch.tensor([0.4, 0.9]),
        labels=torch.tensor([0, 1]), masks=torch.zeros(2, 30, 40, dtype=torch.bool),
    )  # fmt: skip
    found.masks[1, 20:30, 20:40] = True
    seen = objects(found, (30, 40), **TWO)
    assert isinstance(seen, Objects)
    assert seen.scores.tolist() == pytest.approx([0.9, 0.4])
    assert seen.boxes[0].tolist() == [200, 150, 400, 300]
    assert paint(seen, 0.5, 1.0)[250, 300].tolist() == [0, 0, 250]
    assert paint(seen, 0.95, 1.0)[250, 300].tolist() == [100, 100, 100]
    assert legend('x', seen, 0.5).count('<tr>') == 1 and '16.7 %' in legend('x', seen, 0.5)
    assert legend('x', seen, 0.1).count('<tr>') == 2
    assert 'nothing above the score threshold' in legend('x', seen, 0.95)
    seen.masks = None  # then boxes count
    assert '25.0 %' in legend('x', seen, 0.5)


def test_the_best_guesses() -> None:
    names = [f'class {n}' for n in range(9)]
    seen = Ranking(GREY, names, (), {'model': 2.0}, scores=np.float32([0.0, 0.1, 0.6, 0.3, 0, 0, 0, 0, 0]))
    text = legend('x', seen, 0.3)
    assert text.count('<tr>') == 5
    assert text.index('class 2') < text.index('class 3') < text.index('class 1')
    assert 'model 2.0 s' in text
    assert (paint(seen, 0.3, 0.5) != GREY).any()


def test_the_next_free_port() -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < serve.free_port(port) < port + 100
    with pytest.raises(
        OSError, match='all ports from 70000 to 65535 are in use or forbidden: choose another one with --port'
    ):
        serve.free_port(70000)


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, 'find_spec', lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -c constraints\.txt -e '\.\[web\]'"):
        main([])


@pytest.mark.parametrize(
    'words', ['--port 0', '--port 65536', '--port x', '--megabytes 0', '--megapixels -1', '--memory much']
)
def test_numbers_that_are_none(words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert f'argument {words.split()[0]}: invalid ' in capsys.readouterr().err


@pytest.mark.parametrize('gigabytes', ['0', '-1', 'nan', 'inf'])
def test_memory_that_holds_no_model(gigabytes: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(['--memory', gigabytes])
    assert f'--memory: invalid positive value: {gigabytes!r}' in capsys.readouterr().err
