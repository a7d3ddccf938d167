"""``tools/demo.py`` as somebody types it, with small models, on whatever people have in a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from pycocotools import mask as coco_mask

from mmvim.checkpoints import to_official
from mmvim.commands import run_tool
from mmvim.commands.demo import main
from mmvim.inference import demo
from mmvim.inference.choose import choose
from mmvim.inference.inferencer import build_inferencer, draw, place_of_name, predict
from mmvim.inference.inputs import output_stems
from mmvim.inference.outputs import thinned

ROOT = Path(__file__).resolve().parents[2]
SEGMENTOR = f"""
_base_ = '{ROOT}/configs/demo/upernet_vim_t_miniature.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, depth=4, patch_size=16, patch_stride=16), out_indices=(0, 1, 2, 3)
    ),
    neck=dict(in_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
    auxiliary_head=dict(in_channels=16),
)
"""
DETECTOR = f"""
_base_ = '{ROOT}/configs/demo/mask_rcnn_vmamba_miniature.py'
model = dict(backbone=dict(arch=dict(embed_dims=8, depths=(1, 1, 1))), neck=dict(in_channels=[8, 16, 32]))
"""
CONFIGS = {'segmentor': SEGMENTOR, 'detector': DETECTOR}


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a checkpoint of each kind."""
    folder = tmp_path_factory.mktemp('models')
    for name, text in CONFIGS.items():
        (folder / f'{name}.py').write_text(text)
        cfg = Config.fromfile(folder / f'{name}.py')
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
    return folder


@pytest.fixture(scope='module')
def scene() -> np.ndarray:
    """Coarse noise, BGR."""
    return np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(models: Path, kind: str, source: object, *more: object) -> int:
    """The exit code of the demo."""
    return main([str(source), str(models / f'{kind}.py'), str(models / f'{kind}.pth'), *map(str, more)])


def video(path: Path, frame: np.ndarray, count: int = 6) -> None:
    """A video of so many equal frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, frame.shape[1::-1])
    for _ in range(count):
        writer.write(frame)
    writer.release()


def test_folder_with_all_that_there_is(
    models: Path, scene: np.ndarray, place: Path, capsys: pytest.CaptureFixture
) -> None:
    """Good ones are drawn, bad ones are named, others are counted, and inputs stay as they are."""
    folder = place / 'in'
    (folder / 'deeper').mkdir(parents=True)
    (folder / 'notes.txt').write_text('no image')
    (folder / 'letter.jpg').write_text('no image')
    (folder / 'clip_bad.mp4').write_text('no video')
    cv2.imwrite(str(folder / 'same.jpg'), scene)
    cv2.imwrite(str(folder / 'same.png'), scene[:, :64])
    cv2.imwrite(str(folder / 'grey.png'), scene[..., 0])
    cv2.imwrite(str(folder / 'one.png'), scene[:1, :1])
    np.save(folder / 'array.npy', scene)
    video(folder / 'clip.avi', scene)
    video(folder / 'cut.avi', scene, 12)
    content = (folder / 'cut.avi').read_bytes()
    (folder / 'cut.avi').write_bytes(content[: len(content) * 2 // 3])
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    assert run(models, 'segmentor', folder, '--out', 'out') == 1
    printed = capsys.readouterr().out
    assert 'segmentor.pth: ' in printed
    assert 'letter.jpg cannot be read as an image' in printed
    assert 'clip_bad.mp4 cannot be read as a video' in printed
    assert 'one.png: an image of 1 x 1 pixels is smaller than a patch' in printed
    assert 'cut.avi breaks off after ' in printed
    assert '5 of 9 inputs done, 2 others in the folder skipped' in printed
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    shapes = {path.name: cv2.imread(str(path)).shape for path in (place / 'out').glob('*.png')}
    assert shapes == {
        'same_jpg.png': (96, 128, 3), 'same_png.png': (96, 64, 3), 'grey.png': (96, 128, 3), 'array.png': (96, 128, 3)
    }  # fmt: skip
    clips = {path.name: cv2.VideoCapture(str(path)) for path in (place / 'out').glob('*.mp4')}
    assert set(clips) == {'clip.mp4', 'cut.mp4'}
    assert clips['clip.mp4'].get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert 1 < clips['cut.mp4'].get(cv2.CAP_PROP_FRAME_COUNT) < 12
    assert len(list((place / 'out').iterdir())) == 6


def test_detector(models: Path, scene: np.ndarray, place: Path, capsys: pytest.CaptureFixture) -> None:
    cv2.imwrite('x.png', scene)
    assert run(models, 'detector', 'x.png', '--score-thr', 0.0) == 0
    everything = cv2.imread('outputs/x.png')
    assert run(models, 'detector', 'x.png', '--score-thr', 1.0, '--out', 'none') == 0
    np.testing.assert_array_equal(cv2.imread('none/x.png'), scene)
    assert (everything != scene).mean() > 0.01
    assert '1 of 1 inputs done' in capsys.readouterr().out


def test_smoothed_video(models: Path, scene: np.ndarray, place: Path) -> None:
    video(place / 'clip.avi', scene, 3)
    assert run(models, 'segmentor', 'clip.avi', '--smooth', '0.3') == 0
    assert cv2.VideoCapture('outputs/clip.mp4').get(cv2.CAP_PROP_FRAME_COUNT) == 3
    with pytest.raises(ValueError, match='this is a detector: leave it out'):
        run(models, 'detector', 'clip.avi', '--smooth')
    with pytest.raises(ValueError, match='above 0 and at most 1'):
        run(models, 'segmentor', 'clip.avi', '--smooth', 2)


def test_detector_goes_through_windows(
    models: Path, scene: np.ndarray, place: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On demand, or by the size of the image."""
    tifffile.imwrite('x.tif', scene[..., ::-1], photometric='rgb', tile=(64, 64))
    assert run(models, 'detector', 'x.tif', '--window', 64, '--stride', '48x40', '--score-thr', 0.02) == 0
    content = json.loads(Path('outputs/x.json').read_text())
    assert content['images'] == [{'id': 1, 'file_name': 'x.tif', 'width': 128, 'height': 96}]
    for one in content['annotations']:
        mask = coco_mask.decode(one['segmentation'])
        assert mask.shape == (96, 128) and mask.sum() == one['area'] and one['score'] >= 0.02
    assert content['annotations'] and cv2.imread('outputs/x.png').shape == scene.shape
    monkeypatch.setattr(demo, 'LARGE', 1000)
    assert run(models, 'detector', 'x.tif', '--out', 'big') == 0
    assert sorted(path.name for path in Path('big').iterdir()) == ['x.json', 'x.png']
    assert run(models, 'detector', 'x.tif', '--out', 'none', '--resume') == 1
    assert '--blend and --resume are for segmentors' in capsys.readouterr().out


def test_large_image_goes_through_windows(
    models: Path, scene: np.ndarray, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its size or on demand; with equal results, and the labels that the picture shows."""
    image = np.tile(scene, (2, 3, 1))
    place_on_earth = (33550, 'd', 3, (0.5, 0.5, 0.0), True)
    tifffile.imwrite('x.tif', image[..., ::-1], photometric='rgb', tile=(64, 64), extratags=[place_on_earth])
    window = ('--window', '64', '--stride', '48x40')
    assert run(models, 'segmentor', 'x.tif', '--out', 'asked', *window) == 0
    with tifffile.TiffFile('asked/x_labels.tif') as file:
        labels = file.asarray()
        assert file.pages.first.tags[33550].value == (0.5, 0.5, 0.0)
    assert labels.shape == (192, 384)
    assert len(np.unique(labels)) > 1
    monkeypatch.setattr(demo, 'LARGE', 1000)
    assert run(models, 'segmentor', 'x.tif', '--out', 'big') == 0
    assert tifffile.imread('big/x_labels.tif').shape == (192, 384)
    assert sorted(os.listdir('big')) == ['x.png', 'x_labels.tif']
    picture = cv2.imread('asked/x.png')
    assert picture.shape == (192, 384, 3)
    # Half image, half colour of the class, where no name is written over it.
    colours = np.array(Image.open('asked/x_labels.tif').convert('RGB'))[..., ::-1]
    near = np.abs(picture.astype(int) - (image.astype(int) + colours) // 2).max(-1) <= 1
    assert near.mean() > 0.5


def test_without_tifffile_labels_are_a_png(
    models: Path, scene: np.ndarray, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmvim.inference.outputs.find_spec', lambda _: None)
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    cv2.imwrite('x.png', scene)
    assert run(models, 'segmentor', 'x.png', '--window', 64) == 0
    assert np.array(Image.open('outputs/x_labels.png')).shape == (96, 128)


def test_tiff_without_tifffile(
    models: Path, scene: np.ndarray, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    cv2.imwrite('x.tif', scene)
    assert run(models, 'segmentor', 'x.tif', '--window', 64) == 1
    assert 'pip install ".[large]"' in capsys.readouterr().out


def test_logits_that_would_not_fit(
    models: Path, scene: np.ndarray, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(demo, 'MOST_LOGITS', 96 * 128 * 12 // 4)
    cv2.imwrite('x.png', scene)
    assert run(models, 'segmentor', 'x.png') == 0
    assert cv2.imread('outputs/x.png').shape == (48, 64, 3)
    assert 'x.png is drawn with 64 x 48 pixels instead of 128 x 96' in capsys.readouterr().out


def test_out_of_memory_is_one_input(
    models: Path, scene: np.ndarray, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(demo, 'predict', full)
    cv2.imwrite('x.png', scene)
    assert run(models, 'segmentor', 'x.png') == 1
    assert 'x.png needs more memory than there is' in capsys.readouterr().out


def test_interrupted(models: Path, scene: np.ndarray, place: Path) -> None:
    """Ctrl-C in the middle of a label map: nothing is left that looks whole, and what was done is kept."""
    np.save('x.npy', np.tile(scene, (40, 20, 1)))
    command = [sys.executable, ROOT / 'tools' / 'demo.py', 'x.npy', models / 'segmentor.py', models / 'segmentor.pth']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    process = subprocess.Popen(
        [*command, '--window', '64'], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    parts = Path('outputs/x_labels.parts')
    while len(list(parts.glob('0*.npz'))) < 2:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert 'interrupted; 0 files are complete in outputs' in output
    assert 'x_labels.parts keeps ' in output
    assert os.listdir('outputs') == ['x_labels.parts']


def sentence(*arguments: object) -> str:
    """The sentence that the demo ends with."""
    with pytest.raises(SystemExit) as caught:
        run_tool(lambda: main([str(word) for word in arguments]))
    text = str(caught.value)
    assert text.startswith('error: ')
    assert '\n' not in text
    return text


def test_words_that_are_wrong(models: Path, scene: np.ndarray, place: Path) -> None:
    cv2.imwrite('x.png', scene)
    config, weights = models / 'segmentor.py', models / 'segmentor.pth'
    assert "no model 'upernet_vmamba_tt_ade20k'; nearest: upernet_vmamba_t_ade20k" in sentence(
        'x.png', 'upernet_vmamba_tt_ade20k'
    )
    assert 'There is no config none.py' in sentence('x.png', 'none.py')
    assert 'no weights of' in sentence('x.png', config)
    assert 'no checkpoint at none.pth' in sentence('x.png', config, 'none.pth')
    assert 'detector.pth holds VMamba, the model is Vim' in sentence('x.png', config, models / 'detector.pth')
    assert 'there is no y.png' in sentence('y.png', config, weights)
    assert 'is the folder of the inputs' in sentence('x.png', config, weights, '--out', '.')
    assert 'is a file: name a folder' in sentence('x.png', config, weights, '--out', 'x.png')
    assert '--device cuda:99 cannot be used here' in sentence('x.png', config, weights, '--device', 'cuda:99')
    Path('x.txt').touch()
    assert 'neither an image nor a video' in sentence('x.txt', config, weights)
    Path('empty').mkdir()
    assert 'the folder empty has no image and no video' in sentence('empty', config, weights)


@pytest.mark.parametrize('words', ['--window wide', '--window 0x512', '--stride 5x-1', '--batch 0', '--score-thr much'])
def test_numbers_that_are_none(words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(['x.png', 'model', *words.split()])
    assert caught.value.code == 2
    assert f'argument {words.split()[0]}: invalid ' in capsys.readouterr().err


def test_latest_checkpoint_is_offered(models: Path, place: Path) -> None:
    folder = Path('work_dirs/segmentor')
    folder.mkdir(parents=True)
    (folder / 'last_checkpoint').write_text('work_dirs/segmentor/iter_7.pth')
    with pytest.raises(ValueError, match=r'such as work_dirs/segmentor/iter_7\.pth'):
        choose(str(models / 'segmentor.py'))


@pytest.mark.parametrize('form', ['{}', 'configs/vmamba/{}.py'])
def test_published_weights_are_the_default(form: str) -> None:
    name = 'upernet_vmamba_t_ade20k'
    cfg, weights = choose(form.format(name) if form == '{}' else str(ROOT / form.format(name)))
    assert cfg.model.backbone.type == 'mmvim.VMamba'
    assert weights.endswith('upernet_vssm_4xb4-160k_ade20k-512x512_tiny_s_iter_160000.pth')
    assert choose('upernet_vim_t_miniature', 'mine.pth')[1] == 'mine.pth'


def test_models_that_share_a_config_differ_in_weights() -> None:
    (one, first), (other, second) = (choose(f'mask_rcnn_vmamba_b{batch}_coco') for batch in ('', '_bs8'))
    assert one.filename == other.filename
    assert first.endswith('base_epoch_11.pth')
    assert second.endswith('base_epoch_12_bs8.pth')


@pytest.mark.parametrize('kind', CONFIGS)
def test_classes_and_colours(models: Path, kind: str, tmp_path: Path) -> None:
    """From the checkpoint if it knows them, else from the config; numbered if neither has as many as the model."""
    cfg = Config.fromfile(models / f'{kind}.py')
    checkpoint = torch.load(models / f'{kind}.pth')
    expected = {'segmentor': ('building', (180, 120, 120), 12), 'detector': ('person', (220, 20, 60), 5)}[kind]

    def meta_of(meta: dict) -> tuple:
        torch.save({**checkpoint, 'meta': meta}, tmp_path / 'x.pth')
        found = build_inferencer(cfg, str(tmp_path / 'x.pth'), 'cpu').model.dataset_meta
        assert len(found['classes']) == len(found['palette'])
        return found['classes'][0], found['palette'][0], len(found['classes'])

    count = expected[-1]
    assert meta_of({}) == expected
    assert meta_of({'dataset_meta': {'classes': ['one'] * count}}) == ('one', *expected[1:])
    assert meta_of({'CLASSES': ['one'] * count, 'PALETTE': [[1, 2, 3]] * count}) == ('one', (1, 2, 3), count)
    assert meta_of({'dataset_meta': {'classes': ['one'] * 99}}) == expected
    with pytest.raises(ValueError, match=r'x\.pth: its names of classes are no flat list of texts'):
        meta_of({'dataset_meta': {'classes': [['one']] * count}})
    with pytest.raises(ValueError, match=r'x\.pth: its colours of classes are no flat list'):
        meta_of({'dataset_meta': {'classes': ['one'] * count, 'palette': [[[1], 2, 3]] * count}})
    cfg.test_dataloader.dataset.metainfo = {'classes': ('other', 'number')}
    if kind == 'segmentor':
        cfg.test_dataloader.dataset.type = 'BaseSegDataset'
    assert meta_of({})[::2] == ('class 0', count)


@pytest.mark.parametrize('kind', CONFIGS)
def test_inferencers_of_the_libraries(models: Path, kind: str, scene: np.ndarray, tmp_path: Path) -> None:
    """They take our configs as they are, and see what ours sees; ours takes the authors' layout as well."""
    from mmdet.apis import DetInferencer
    from mmseg.apis import MMSegInferencer

    library = {'segmentor': MMSegInferencer, 'detector': DetInferencer}[kind]
    config, weights = str(models / f'{kind}.py'), models / f'{kind}.pth'
    theirs = library(config, str(weights), device='cpu')(scene, return_datasamples=True)

    state = torch.load(weights)['state_dict']
    backbone = {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}
    rest = {key: value for key, value in state.items() if not key.startswith('backbone.')}
    official = {f'backbone.{key}': value for key, value in to_official(backbone).items()}
    assert not set(official) <= set(state)
    torch.save({'model': {**rest, **official}}, tmp_path / 'official.pth')
    for file in (weights, tmp_path / 'official.pth'):
        found = predict(build_inferencer(Config.fromfile(config), str(file), 'cpu'), scene)
        if kind == 'segmentor':
            torch.testing.assert_close(found.seg_logits.data, theirs.seg_logits.data)
        else:
            torch.testing.assert_close(found.pred_instances.bboxes, theirs['predictions'][0].pred_instances.bboxes)


@pytest.mark.parametrize('kind', CONFIGS)
def test_mixed_precision_sees_the_same(models: Path, kind: str, scene: np.ndarray) -> None:
    cfg, weights = Config.fromfile(models / f'{kind}.py'), str(models / f'{kind}.pth')
    exact, mixed = (build_inferencer(cfg, weights, 'cpu', amp) for amp in (False, True))
    assert exact.precision is None and 'bf16' in mixed.precision
    exact, mixed = predict(exact, scene), predict(mixed, scene)
    if kind == 'segmentor':
        one, other = exact.seg_logits.data, mixed.seg_logits.data
        assert other.dtype == torch.float32
        assert 0 < (one - other).norm() < 0.05 * one.norm()
    else:
        assert mixed.pred_instances.bboxes.dtype == mixed.pred_instances.scores.dtype == torch.float32
        assert len(mixed.pred_instances) > 0


def test_mixed_precision_of_images_videos_and_large_images(
    models: Path, scene: np.ndarray, place: Path, capsys: pytest.CaptureFixture
) -> None:
    (place / 'in').mkdir()
    cv2.imwrite('in/x.png', scene)
    video(place / 'in' / 'clip.avi', scene, 2)
    assert run(models, 'segmentor', 'in', '--amp') == 0
    assert '--amp: ' in capsys.readouterr().out
    assert run(models, 'segmentor', 'in/x.png', '--amp', '--window', 64, '--out', 'windows') == 0
    assert sorted(os.listdir('outputs')) == ['clip.mp4', 'x.png']
    assert sorted(os.listdir('windows')) == ['x.png', 'x_labels.tif']


def test_small_picture_of_a_large_image(scene: np.ndarray) -> None:
    spans = [(0, 7), (7, 8), (8, 40), (40, 96)]
    thin = np.concatenate([thinned(scene[top:bottom], top, 5) for top, bottom in spans])
    np.testing.assert_array_equal(thin, scene[::5, ::5])


def test_names_stand_where_mmseg_puts_them() -> None:
    from mmseg.visualization import SegLocalVisualizer

    generator = np.random.default_rng(0)
    for _ in range(20):
        mask = (generator.random((9, 11)) > 0.7).astype(np.uint8)
        np.testing.assert_array_equal(place_of_name(mask), SegLocalVisualizer._get_center_loc(None, mask))


def test_colours_of_a_picture_are_those_of_the_image(models: Path, scene: np.ndarray) -> None:
    """Blue stays blue, on the way to the model and in the picture."""
    cfg = Config.fromfile(models / 'segmentor.py')
    inferencer = build_inferencer(cfg, str(models / 'segmentor.pth'), 'cpu')
    found = predict(inferencer, scene)
    labels = found.pred_sem_seg.data[0].numpy()
    picture = draw(inferencer, scene, found)
    colours = np.array(inferencer.model.dataset_meta['palette'])[labels][..., ::-1]
    near = np.abs(picture.astype(int) - (scene.astype(int) + colours) // 2).max(-1) <= 1
    assert near.mean() > 0.5  # names are written over the rest


def test_two_files_never_share_a_name() -> None:
    files = [Path(name) for name in ('a.jpg', 'a.png', 'a_png.bmp', 'b.jpg')]
    assert list(output_stems(files).values()) == ['a_jpg', 'a_png', 'a_png_', 'b']
