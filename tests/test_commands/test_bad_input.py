"""Bad input on the command line: one sentence, exit code 1 or 2, before anything is built."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mmvim.checkpoints import read
from mmvim.commands import run_tool, tta
from mmvim.commands import test as test_module
from mmvim.commands import train as train_module
from mmvim.commands.test import test as evaluate
from mmvim.commands.train import train
from mmvim.errors import UserValueError
from mmvim.miniature.data_sets import ensure_miniature
from mmvim.models.layers import LayerNorm2d
from mmvim.preflight import packages
from mmvim.preflight.config import load_config
from mmvim.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'vim'
UPERNET = str(CONFIGS / 'upernet_vim_s_ade20k.py')
MASK_RCNN = str(CONFIGS / 'mask_rcnn_vim_t_coco.py')
SCRATCH = ['--cfg-options', 'model.backbone.init_cfg=None']


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder, where building the runner would be a failure."""

    def fail(*_: object) -> None:
        raise AssertionError('the runner was built')

    for module in (train_module, test_module):
        monkeypatch.setattr(module, 'build_runner', fail)
        monkeypatch.setattr(module, 'set_up_cpu', lambda *_: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')  # or the tools would set it, for all tests to come


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both miniature data sets."""
    folder = tmp_path_factory.mktemp('data')
    ensure_miniature('ade20k', folder / 'ade', train=1, val=1, size=(32, 32), progress=False)
    ensure_miniature('coco', folder / 'coco', train=1, val=1, size=(32, 32), progress=False)
    return folder


@pytest.fixture
def with_data(data: Path, tmp_path: Path) -> None:
    """Put the data sets where the configs expect them."""
    (tmp_path / 'data').symlink_to(data)


def sentence(tool: Callable, *arguments: str) -> str:
    """The sentence that a command ends with."""
    with pytest.raises(SystemExit) as caught:
        run_tool(lambda: tool([str(word) for word in arguments]))
    text = str(caught.value)
    assert text.startswith('error: ')
    assert '\n' not in text
    return text


@pytest.mark.parametrize('tool', [train, evaluate])
def test_config_that_does_not_exist(tool: Callable) -> None:
    more = ['x.pth'] if tool is evaluate else []
    text = sentence(tool, 'configs/vim/upernet_vim_small_ade20k.py', *more)
    assert 'There is no config configs/vim/upernet_vim_small_ade20k.py; nearest: ' in text
    assert os.path.relpath(UPERNET) in text
    assert sentence(tool, 'zzz.py', *more) == 'error: There is no config zzz.py.'
    assert 'is a folder' in sentence(tool, '.', *more)


@pytest.mark.parametrize(
    ('option', 'meant'),
    [
        ('model.bakbone.arch=base', 'model.backbone.arch'),
        ('modle.backbone.arch=base', 'model.backbone.arch'),
        ('trian_cfg.max_iters=3', 'train_cfg.max_iters'),
        ('work_dri=x', 'work_dir'),
        ('randomnes.seed=3', 'randomness.seed'),
    ],
)
def test_slip_in_an_option(option: str, meant: str) -> None:
    assert sentence(train, UPERNET, '--cfg-options', option).endswith(f'did you mean {meant}?')


def test_option_that_is_nothing_at_all() -> None:
    assert 'the config has no entry foo' in sentence(train, UPERNET, '--cfg-options', 'foo=3')


def test_option_that_does_not_fit() -> None:
    text = sentence(train, UPERNET, '--cfg-options', 'model.backbone.arch.depth=3')
    assert '--cfg-options do not fit the config' in text


@pytest.mark.parametrize(
    'option',
    ['model.backbone.with_cp=True', 'randomness.deterministic=True', 'default_hooks.ema.type=EMAHook', 'compile=True']
    + ['train_dataloader.dataset.pipeline.2.scale=(64,64)', 'load_from=None', 'model.backbone.init_cfg=None'],
)
def test_option_that_is_fine(option: str) -> None:
    assert 'The data set of train_dataloader' in sentence(train, UPERNET, '--cfg-options', option)


@pytest.mark.parametrize('option', ['foo', 'model.neck=[1,'])
def test_option_without_value(option: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        train([UPERNET, '--cfg-options', option])
    assert caught.value.code == 2
    assert 'KEY=VALUE' in capsys.readouterr().err


def test_data_are_missed_before_weights() -> None:
    assert sentence(train, UPERNET) == (
        'error: The data set of train_dataloader is not in its place: data/ade/ADEChallengeData2016 has no '
        'images/training and no annotations/training; put or link it there, or change data_root; a miniature one is '
        'drawn by: python tools/make_miniature.py ade20k --out data/ade'
    )
    text = sentence(train, MASK_RCNN)
    assert 'data/coco/ has no annotations/instances_train2017.json and no train2017/' in text
    assert text.endswith('python tools/make_miniature.py coco --out data/coco')
    assert 'test_dataloader' in sentence(evaluate, UPERNET, 'x.pth')


def test_part_of_the_data_is_missing(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / 'data')
    shutil.rmtree(tmp_path / 'data/ade/ADEChallengeData2016/annotations/validation')
    text = sentence(train, UPERNET, *SCRATCH)
    assert 'The data set of val_dataloader' in text
    assert 'has no annotations/validation;' in text


def test_evaluator_that_was_left_behind(data: Path, tmp_path: Path) -> None:
    (tmp_path / 'mine').symlink_to(data)
    options = [f'{stage}_dataloader.dataset.data_root=mine/coco' for stage in ('train', 'val')]
    text = sentence(train, MASK_RCNN, '--cfg-options', *options)
    assert 'val_evaluator.ann_file: there is no data/coco/annotations/instances_val2017.json' in text


def test_no_miniature_is_offered_for_a_place_of_ones_own() -> None:
    options = [f'{stage}_dataloader.dataset.data_root=/mine' for stage in ('train', 'val')]
    text = sentence(train, UPERNET, '--cfg-options', *options)
    assert '/mine has no images/training' in text
    assert 'miniature' not in text


def test_data_inside_wrappers() -> None:
    dataset = ['train_dataloader.dataset._delete_=True', 'train_dataloader.dataset.type=RepeatDataset']
    inner = ['type=CityscapesDataset', 'data_root=data/cityscapes', 'data_prefix.img_path=leftImg8bit/train']
    dataset += [f'train_dataloader.dataset.dataset.{entry}' for entry in inner]
    assert 'data/cityscapes has no leftImg8bit/train;' in sentence(train, UPERNET, '--cfg-options', *dataset)


@pytest.mark.usefixtures('with_data')
def test_weights_are_missing() -> None:
    text = sentence(train, UPERNET)
    for part in (
        'weights/vim_s_midclstok_80p5acc.pth is missing',
        'huggingface.co/hustvl/Vim-small-midclstok',
        'into weights/',
        '--cfg-options model.backbone.init_cfg=None',
    ):
        assert part in text
    with pytest.raises(AssertionError, match='the runner was built'):
        train([UPERNET, *SCRATCH])
    assert 'mine.pth' in sentence(train, UPERNET, *SCRATCH, 'load_from=mine.pth')


@pytest.mark.usefixtures('with_data')
def test_nothing_to_resume(tmp_path: Path) -> None:
    text = sentence(train, UPERNET, '--resume', '--work-dir', 'empty', *SCRATCH)
    assert 'there is no run to go on with in empty' in text
    assert 'no checkpoint at gone.pth' in sentence(train, UPERNET, '--resume', 'gone.pth', *SCRATCH)
    (tmp_path / 'last_checkpoint').write_text('moved/iter_3.pth')
    assert 'moved/iter_3.pth' in sentence(train, UPERNET, '--resume', '--work-dir', '.', *SCRATCH)


@pytest.mark.usefixtures('with_data')
def test_no_checkpoint_to_test() -> None:
    assert 'no checkpoint at gone.pth' in sentence(evaluate, UPERNET, 'gone.pth')


@pytest.mark.parametrize(
    ('config', 'gone', 'parts'),
    [
        (MASK_RCNN, 'mmdet', ['needs mmdet', "pip install -c constraints.txt -e '.[det]'"]),
        (UPERNET, 'mmseg', ['needs mmseg', "pip install -c constraints.txt -e '.[seg]'"]),
        (MASK_RCNN, 'mmcv._ext', ['compiled ops of mmcv', 'make ops', 'pip install --no-build-isolation']),
    ],
)
def test_package_is_missing(monkeypatch: pytest.MonkeyPatch, config: str, gone: str, parts: list[str]) -> None:
    find_spec = packages.find_spec
    monkeypatch.setattr(packages, 'find_spec', lambda name: None if name == gone else find_spec(name))
    text = sentence(train, config)
    assert all(part in text for part in parts)


@pytest.mark.usefixtures('with_data')
def test_what_upernet_needs_of_mmcv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segmentation works with an mmcv that has no ops."""
    find_spec = packages.find_spec
    monkeypatch.setattr(packages, 'find_spec', lambda name: None if name in ('mmcv._ext', 'mmdet') else find_spec(name))
    with pytest.raises(AssertionError, match='the runner was built'):
        train([UPERNET, *SCRATCH])


@pytest.mark.usefixtures('with_data')
def test_options_of_test_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / 'x.pth').touch()
    assert 'merges boxes only' in sentence(evaluate, MASK_RCNN, 'x.pth', '--tta')
    assert 'give a name that ends in .pkl' in sentence(evaluate, MASK_RCNN, 'x.pth', '--out', 'folder')
    assert 'give a folder' in sentence(evaluate, UPERNET, 'x.pth', '--out', 'found.pkl')
    no_hook = ['--cfg-options', 'default_hooks.visualization=None']
    assert '--show-dir needs the hook' in sentence(evaluate, UPERNET, 'x.pth', '--show-dir', 'x', *no_hook)
    no_pipeline = ['--cfg-options', 'tta_pipeline=None']
    assert '--tta needs tta_pipeline' in sentence(evaluate, UPERNET, 'x.pth', '--tta', *no_pipeline)


def test_boxes_get_the_test_time_augmentation_of_mmdet() -> None:
    cfg = load_config(MASK_RCNN, {'model.roi_head.mask_head': None, 'test_evaluator.metric': 'bbox'})
    tta.use_tta(cfg)
    assert cfg.model.type == 'DetTTAModel'
    assert cfg.model.module.type == 'MaskRCNN'
    steps = cfg.test_dataloader.dataset.pipeline
    assert [step.type for step in steps] == ['LoadImageFromFile', 'Resize', 'LoadAnnotations', 'TestTimeAug']
    assert [flip.prob for flip in steps[-1].transforms[0]] == [1.0, 0.0]


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_launcher_that_did_not_launch(monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    for variable in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(variable, raising=False)
    assert f'--launcher {launcher} works in processes' in sentence(train, UPERNET, '--launcher', launcher)


def test_auto_scale_lr_needs_a_batch_size() -> None:
    text = sentence(train, UPERNET, '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None')
    assert 'base_batch_size' in text


def test_accidents_keep_their_traceback() -> None:
    with pytest.raises(ValueError, match='invalid literal'):
        run_tool(lambda: int('x'))
    with pytest.raises(RuntimeError, match='normalized_shape'):  # torch's, from inside mmvim
        run_tool(lambda: LayerNorm2d(3)(torch.zeros(1, 4, 2, 2)))


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UserValueError('no such thing')

    with pytest.raises(SystemExit, match='^error: no such thing$'):
        run_tool(fail)
    monkeypatch.setenv('MMVIM_TRACEBACK', '1')
    with pytest.raises(UserValueError, match='no such thing'):
        run_tool(fail)


class Damaged(Dataset):
    """Two images that cannot be read."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> None:
        raise UserValueError(f'{index}.png is no image')


def test_a_sentence_comes_alone_out_of_a_process_that_loads_images() -> None:
    with pytest.raises(SystemExit, match=r'^error: 0\.png is no image$'):
        run_tool(lambda: next(iter(DataLoader(Damaged(), num_workers=1))))


def test_what_the_package_refuses_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / 'x.pth').write_bytes(b'no checkpoint')
    with pytest.raises(SystemExit, match='^error: .*x.pth'):
        run_tool(lambda: read('x.pth'))


def test_what_is_refused_while_a_model_is_built_is_a_sentence() -> None:
    """By way of a registry, of which some releases make errors anew."""
    with pytest.raises(SystemExit, match='^error: .*out_indices'):
        run_tool(lambda: MODELS.build({'type': 'Vim', 'arch': 'tiny', 'out_indices': (99,)}))
    with pytest.raises(SystemExit, match='^error: .*enormous'):
        run_tool(lambda: MODELS.build({'type': 'VMamba', 'arch': 'enormous'}))


def test_process(tmp_path: Path) -> None:
    """The script itself: exit code, one line, nothing of mmdet or mmseg imported."""
    code = (
        f'import runpy, sys; sys.argv = ["train.py", {UPERNET!r}]\n'
        'try:\n'
        f'    runpy.run_path({str(ROOT / "tools" / "train.py")!r}, run_name="__main__")\n'
        'finally:\n'
        '    print("imported:", *({"mmdet", "mmseg"} & set(sys.modules)))\n'
    )
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    result = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith('error: The data set')
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout.split() == ['imported:']
