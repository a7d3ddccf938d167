"""The page in headless Chromium, as somebody uses it, with small models in a folder of runs.

Chromium is installed by ``tools/setup_env.py test``. One server is for all tests of this file,
and each of them opens the page anew.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from struct import pack

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    'segmentor': f"""
_base_ = '{ROOT}/configs/demo/upernet_vim_t_miniature.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, depth=4, patch_size=16, patch_stride=16), out_indices=(0, 1, 2, 3)
    ),
    neck=dict(in_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
    auxiliary_head=dict(in_channels=16),
)
""",
    'detector': f"""
_base_ = '{ROOT}/configs/demo/mask_rcnn_vmamba_miniature.py'
model = dict(backbone=dict(arch=dict(embed_dims=8, depths=(1, 1, 1))), neck=dict(in_channels=[8, 16, 32]))
""",
    'classifier': f"""
_base_ = '{ROOT}/configs/vmamba/vmamba_t_imagenet.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=8, depths=(1, 1)), out_indices=(1,)),
    head=dict(in_channels=16, num_classes=7),
)
""",
}
WAIT = 30_000  # ms, on a machine that is busy


@dataclass
class Server:
    """The page in a process of its own.

    Attributes:
        place: Its working directory, with ``work_dirs``; beside it its home and its folder for temporary files.
        said: What it printed at the start.
        outside: Addresses on other machines that a browser asked for.
    """

    place: Path
    process: subprocess.Popen
    said: str
    address: str
    outside: list[str] = field(default_factory=list)


def write_runs(work_dirs: Path) -> None:
    """A folder for each model, as ``tools/train.py`` leaves it; one without a checkpoint, one with another model's."""
    for name, text in RUNS.items():
        (work_dirs / name).mkdir(parents=True)
        config = work_dirs / name / f'{name}.py'
        config.write_text(text)
        cfg = Config.fromfile(config)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        torch.save({'state_dict': model.state_dict()}, work_dirs / name / 'last.pth')
    for name in ('untrained', 'mistaken'):
        (work_dirs / name).mkdir()
        shutil.copy(work_dirs / 'segmentor' / 'segmentor.py', work_dirs / name)
    wrong = shutil.copy(work_dirs / 'detector' / 'last.pth', work_dirs / 'mistaken')
    os.utime(wrong, (0, 0))  # the newest is what a visitor finds chosen


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp('web')
    for name in ('place', 'home', 'tmp'):
        (folder / name).mkdir()
    write_runs(folder / 'place' / 'work_dirs')
    variables = {'HOME': str(folder / 'home'), 'TMPDIR': str(folder / 'tmp'), 'PYTHONPATH': str(ROOT)}
    variables |= {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'GRADIO_SHARE': 'True', 'DISPLAY': ''}
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, ROOT / 'tools/web.py', '--port', port, '--megabytes', 1, '--megapixels', 20]
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder / 'place', env={**os.environ, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = ''
        while not (found := re.search(r'http://127\.0\.0\.1:\d+', said)):
            line = process.stdout.readline()
            assert line, f'it ended, {process.wait()}: {said}'
            said += line
    yield Server(folder / 'place', process, said, found[0])
    process.kill()


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    assert path, 'there is no Chromium: python3 tools/setup_env.py test installs it, or says how'
    expect.set_options(timeout=WAIT)
    options = ['--no-sandbox'] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


def visit(server: Server, browser: Browser) -> Page:
    """The page as a new visitor finds it, when its first model is loaded."""
    page = browser.new_context(viewport={'width': 1440, 'height': 900}).new_page()
    page.set_default_timeout(WAIT)
    page.on('request', lambda request: None if request.url.startswith((server.address, 'data:', 'blob:'))
            else server.outside.append(request.url))  # fmt: skip
    page.goto(server.address)
    expect(page.locator('#about')).to_contain_text('parameters')
    expect(page.locator('#image img').first).to_be_visible()
    return page


@pytest.fixture
def page(server: Server, browser: Browser) -> Iterator[Page]:
    page = visit(server, browser)
    yield page
    page.context.close()


def choose(page: Page, field: str, label: str) -> None:
    """Choose from a list of the page."""
    page.click(f'#{field} input')
    page.get_by_role('option', name=label, exact=True).click()
    expect(page.get_by_role('option')).to_have_count(0)


def upload(page: Page, path: Path) -> None:
    """Put an image in the place of the one that may be there."""
    remove = page.get_by_label('Remove Image')
    if remove.count():
        remove.click()
    page.locator('#image input[type=file]').set_input_files(path)


def look(page: Page, models: int = 1) -> list[str]:
    """Press the button; the lines of the legends when they are there, of as many models."""
    before = page.locator('#legends').inner_html()
    page.click('#look')
    page.wait_for_function(
        '([before, models]) => { const legends = document.querySelector("#legends"); '
        'return legends.innerHTML != before && legends.querySelectorAll("h4").length == models }',
        arg=[before, models],
    )
    return page.locator('#legends tr').all_inner_texts()


def picture(page: Page, element: str) -> np.ndarray:
    """The picture that an element shows, RGB."""
    source = page.locator(f'{element} img').first.get_attribute('src')
    return np.array(Image.open(BytesIO(page.request.get(source).body())).convert('RGB'))


def expect_complaint(page: Page, sentence: str | re.Pattern) -> None:
    """See that the page shows a sentence; earlier ones may stand above it."""
    expect(page.locator('.toast-wrap').first).to_contain_text(sentence)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Coarse noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(np.kron(pixels, np.ones((16, 16, 1), np.uint8))).save(tmp_path / 'scene.png')
    return tmp_path / 'scene.png'


def test_the_next_port_is_taken_and_said(server: Server) -> None:
    taken, address = re.search(r'port (\d+) is in use', server.said), server.address
    assert taken, server.said
    assert int(address.rpartition(':')[2]) > int(taken[1])


def test_upload_and_segment(page: Page, scene: Path) -> None:
    choose(page, 'model', 'segmentor / last.pth')
    expect(page.locator('#about')).to_contain_text('Vim')
    upload(page, scene)
    rows = look(page)
    shares = [float(re.search(r'([\d.]+) %', row)[1]) for row in rows]
    pixels = [int(re.search(r'([\d,]+) px', row)[1].replace(',', '')) for row in rows]
    assert sum(pixels) == 96 * 128
    assert shares == [round(100 * count / (96 * 128), 1) for count in pixels]
    times = page.locator('#legends .mm-times').inner_text()
    assert re.fullmatch(r'reading .+ · preprocessing .+ · model .+ · drawing .+', times)

    # What is drawn: the image at no opacity, colours of the legend and names at full opacity.
    for opacity in ('0', '1'):
        old = page.locator('#picture img').get_attribute('src')
        page.locator('#opacity input[type=number]').fill(opacity)
        page.keyboard.press('Tab')
        page.wait_for_function('old => document.querySelector("#picture img")?.src != old', arg=old)
        drawn = picture(page, '#picture')
        assert drawn.shape == (384, 512, 3)
        if opacity == '0':
            given = np.array(Image.open(scene))
            assert np.abs(drawn[32::64, 32::64].astype(int) - given[8::16, 8::16]).max() <= 8
        else:
            styles = [swatch.get_attribute('style') for swatch in page.locator('.mm-swatch').all()]
            colours = {tuple(map(int, re.findall(r'\d+', style))) for style in styles}
            plain = np.isin(drawn.astype(int) @ (1, 256, 65536), [r + 256 * g + 65536 * b for r, g, b in colours])
            assert plain.mean() > 0.8


def test_switch_to_a_detector_and_a_classifier(page: Page, scene: Path) -> None:
    upload(page, scene)
    choose(page, 'model', 'detector / last.pth')
    expect(page.locator('#about')).to_contain_text('VMamba')
    page.locator('#threshold input[type=number]').fill('0')
    page.keyboard.press('Tab')
    assert all(re.search(r'% *\t?\d+ x', row) for row in look(page))
    page.locator('#threshold input[type=number]').fill('1')
    page.keyboard.press('Tab')
    expect(page.locator('#legends')).to_contain_text('nothing above the score threshold')
    choose(page, 'model', 'classifier / last.pth')
    rows = look(page)
    assert len(rows) == 5
    assert all(re.match(r'class \d', row) for row in rows)


def test_compare_two_models(page: Page, scene: Path) -> None:
    upload(page, scene)
    choose(page, 'model', 'segmentor / last.pth')
    choose(page, 'second', 'detector / last.pth')
    look(page, models=2)
    assert page.locator('#legends h4').all_inner_texts() == ['segmentor / last.pth', 'detector / last.pth']
    expect(page.locator('#slider')).to_be_visible()
    expect(page.locator('#picture')).to_be_hidden()
    assert page.locator('#slider img').count() == 2
    choose(page, 'second', 'none')
    look(page)
    expect(page.locator('#picture')).to_be_visible()
    expect(page.locator('#slider')).to_be_hidden()


def test_receptive_field_at_a_click(page: Page, scene: Path) -> None:
    choose(page, 'model', 'segmentor / last.pth')
    upload(page, scene)
    page.get_by_role('tab', name='Receptive field').click()
    expect(page.locator('#output input')).to_have_value('map 4 of the backbone, stride 16')
    for output in ('map 4 of the backbone, stride 16', 'the score of the class at the pixel'):
        choose(page, 'output', output)
        box = page.locator('#clicked img').bounding_box()
        high = box['width'] * 96 / 128  # the image; the rest of the box is empty above and below
        at = {'x': box['width'] * 0.25, 'y': (box['height'] - high) / 2 + high * 0.75}
        page.locator('#clicked img').click(position=at)
        expect(page.locator('#of-field')).to_contain_text(f'Gradient of {output}')
        assert re.search(r'row 7[456]%, column 2[456]%, computed on 128 x 96', page.locator('#of-field').inner_text())
    drawn = picture(page, '#field')
    assert drawn.shape == (384, 512, 3)
    # A cross in dark grey at the place.
    near = drawn[288 - 9 : 288 + 10, 128 - 9 : 128 + 10].astype(int)
    assert (np.abs(near - 40).max(-1) < 12).sum() > 20


def test_what_each_walk_contributes(page: Page, scene: Path) -> None:
    choose(page, 'model', 'detector / last.pth')
    expect(page.locator('#about')).to_contain_text('VMamba')
    upload(page, scene)
    page.get_by_role('tab', name='Walks').click()
    choose(page, 'layer', 'layers.0.blocks.0.op')
    page.click('#measure')
    expect(page.locator('#of-walks')).to_contain_text('layers.0.blocks.0.op')
    titles = page.locator('#walks .caption-label').all_inner_texts()
    assert [title.partition(' · ')[0] for title in titles] == ['rows', 'columns', 'rows, reversed', 'columns, reversed']
    assert sum(int(title.partition(' · ')[2].rstrip('%')) for title in titles) in range(98, 103)
    expect(page.locator('#of-walks')).to_contain_text('for 32 x 24 tokens')


def test_a_broken_file(page: Page, tmp_path: Path, scene: Path) -> None:
    (tmp_path / 'broken.png').write_bytes(scene.read_bytes()[:200])
    (tmp_path / 'letter.png').write_text('<script>alert(1)</script>')
    upload(page, tmp_path / 'letter.png')
    expect_complaint(page, 'letter.png cannot be read as an image (of no known kind)')
    upload(page, tmp_path / 'broken.png')
    expect_complaint(page, re.compile('(?<!/)broken.png is damaged or cut off'))
    page.click('#look')
    expect(page.locator('.toast-wrap').get_by_text('broken.png is damaged')).to_have_count(2)
    expect(page.locator('.toast-wrap').first).not_to_contain_text('mmvim-web-')
    upload(page, scene)
    assert look(page)


def giant(path: Path, side: int) -> Path:
    """A PNG of few bytes that claims to be large."""
    header = b'IHDR' + pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    body = b'IDAT' + zlib.compress(bytes((side // 8 + 1) * side))
    chunks = (pack('>I', len(part) - 4) + part + pack('>I', zlib.crc32(part)) for part in (header, body, b'IEND'))
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(chunks))
    return path


def test_very_large_ones(page: Page, tmp_path: Path) -> None:
    """Too many pixels, too many bytes; and one that goes through the window, with a bar, until it is stopped."""
    upload(page, giant(tmp_path / 'giant.png', 8000))
    expect_complaint(page, 'giant.png has 64 megapixels, and this page takes 1 MB and 20 megapixels')
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'heavy.png')
    upload(page, tmp_path / 'heavy.png')
    expect_complaint(page, 'exceed the maximum allowed size of 1.0 Mb: "heavy.png"')

    choose(page, 'model', 'segmentor / last.pth')
    expect(page.locator('#about')).to_contain_text('Vim')
    Image.fromarray(noise[:150, :200]).save(tmp_path / 'wide.png')
    upload(page, tmp_path / 'wide.png')
    page.check('#windows input')
    rows = look(page)
    assert sum(int(re.search(r'([\d,]+) px', row)[1].replace(',', '')) for row in rows) == 150 * 200
    expect(page.locator('#legends')).to_contain_text('In its own resolution of 200 x 150 pixels, by 20 windows.')
    Image.fromarray(np.zeros((4000, 4000, 3), np.uint8)).save(tmp_path / 'long.png')
    upload(page, tmp_path / 'long.png')
    page.click('#look')
    expect(page.locator('.progress-text').first).to_contain_text(re.compile(r'/9\.0k windows'))
    expect(page.locator('.progress-bar').first).to_be_visible()
    page.click('#stop')
    expect_complaint(page, re.compile(r'stopped after \d+ of 9025 windows'))


def test_two_users_at_once(server: Server, browser: Browser, scene: Path) -> None:
    """Each gets what was asked for, though one has to wait for the other."""
    visitors = [visit(server, browser) for _ in range(2)]
    for visitor, model in zip(visitors, ('segmentor', 'classifier'), strict=True):
        choose(visitor, 'model', f'{model} / last.pth')
        upload(visitor, scene)
    for visitor in visitors:
        visitor.click('#look')
    for visitor, model in zip(visitors, ('segmentor', 'classifier'), strict=True):
        expect(visitor.locator('#legends h4')).to_have_text(f'{model} / last.pth')
        visitor.context.close()


def test_models_that_cannot_be_loaded(page: Page) -> None:
    choose(page, 'model', 'untrained · no checkpoint')
    expect(page.locator('#about')).to_contain_text(
        'has a config and no checkpoint: train it with python tools/train.py'
    )
    choose(page, 'model', 'mistaken / last.pth')
    expect(page.locator('#about')).to_contain_text('last.pth holds VMamba, the model is Vim')
    page.click('#look')
    expect_complaint(page, 'last.pth holds VMamba, the model is Vim')
    choose(page, 'model', 'vim_t_imagenet · weights not here')
    expect(page.locator('#about')).to_contain_text(
        'vim_t_midclstok_76p1acc.pth is not on this machine: download it from'
    )


class Neighbour(BaseHTTPRequestHandler):
    """Another server on this machine."""

    image = b''

    def do_GET(self) -> None:  # noqa: N802  its name in http.server
        if self.path == '/away':
            self.send_response(302)
            self.send_header('Location', 'http://192.0.2.1/scene.png')
            self.end_headers()
            return
        self.send_response(200 if self.path == '/scene.png' else 404)
        self.end_headers()
        self.wfile.write(self.image)

    def log_message(self, *_: object) -> None:
        pass


def test_addresses_of_this_machine_alone(page: Page, scene: Path) -> None:
    Neighbour.image = scene.read_bytes()
    with ThreadingHTTPServer(('127.0.0.1', 0), Neighbour) as neighbour:
        threading.Thread(target=neighbour.serve_forever, daemon=True).start()
        page.click('#from-address button')
        here = f'http://localhost:{neighbour.server_port}'
        old = page.locator('#image img').first.get_attribute('src')
        page.fill('#address input, #address textarea', f'{here}/scene.png')
        page.click('#fetch')
        page.wait_for_function(
            'old => { const image = document.querySelector("#image img"); return image && image.src != old }', arg=old
        )
        np.testing.assert_array_equal(picture(page, '#image'), np.array(Image.open(scene)))
        for address, sentence in {
            'http://192.0.2.1/scene.png': '192.0.2.1 is another machine: this page fetches from 127.0.0.1',
            f'{here}/away': '192.0.2.1 is another machine',
            f'{here}/none.png': 'answers 404',
            'file:///etc/passwd': 'is no address: expected one such as http://127.0.0.1:8000/image.png',
        }.items():
            page.fill('#address input, #address textarea', address)
            page.click('#fetch')
            expect_complaint(page, sentence)
        neighbour.shutdown()


def test_nothing_leaves_this_machine_and_nothing_is_left(server: Server, page: Page, tmp_path: Path) -> None:
    """The last one: it ends the page."""
    assert server.outside == []
    policy = page.request.get(server.address).headers['content-security-policy']
    assert "default-src 'self'" in policy
    assert page.request.get(server.address, headers={'Host': 'elsewhere.example'}).status == 400
    secret = server.place / 'work_dirs' / 'segmentor' / 'segmentor.py'
    assert page.request.get(f'{server.address}/gradio_api/file={secret}').status == 403
    # In the midst of windows.
    choose(page, 'model', 'segmentor / last.pth')
    expect(page.locator('#about')).to_contain_text('Vim')
    Image.fromarray(np.zeros((4000, 4000, 3), np.uint8)).save(tmp_path / 'long.png')
    upload(page, tmp_path / 'long.png')
    page.check('#windows input')
    page.click('#look')
    expect(page.locator('.progress-text').first).to_contain_text(re.compile(r'/9\.0k windows'))
    server.process.send_signal(signal.SIGTERM)
    said = server.process.communicate(timeout=60)[0]
    assert server.process.returncode == 0, said
    assert said.splitlines() == ['the page is closed; its temporary files are removed']
    assert sorted(os.listdir(server.place)) == ['work_dirs']
    assert {path.name for path in (server.place / 'work_dirs').iterdir()} == {*RUNS, 'untrained', 'mistaken'}
    assert list((server.place.parent / 'tmp').iterdir()) == []
    assert [path for path in (server.place.parent / 'home').rglob('*') if path.is_file()] == []
