"""Whole models: other classes are told from anything else, and only training starts with new ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import RUNNERS
from mmengine.runner import save_checkpoint
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmvim.checkpoints import load_model, read, to_official
from mmvim.checkpoints.classes import explain_classes
from mmvim.engine.runner import Runner
from mmvim.models.backbones.vim import Vim

ARCH = {'embed_dims': 32, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}


class Head(BaseModule):
    """Outputs of the three kinds that detectors have: a class, a class or background, four numbers per class."""

    def __init__(self, classes: int, channels: int = 8) -> None:
        super().__init__()
        self.num_classes = classes
        self.hidden = nn.Conv2d(32, channels, 1)
        self.masks = nn.Conv2d(channels, classes, 1)
        self.label = nn.Conv2d(channels, classes + 1, 1)
        self.box = nn.Conv2d(channels, 4 * classes, 1)


class Model(BaseModel):
    """A Vim of one block and a head."""

    def __init__(self, classes: int = 3, channels: int = 8, size: int = 64) -> None:
        super().__init__()
        self.backbone = Vim(ARCH, pretrain_img_size=size)
        self.neck = nn.BatchNorm2d(32)
        self.head = Head(classes, channels)

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> dict | list:
        """A loss that every parameter but the mask's takes part in."""
        x = self.head.hidden(self.neck(self.backbone(torch.stack(list(inputs)))[-1]))
        loss = self.head.label(x).square().mean() + self.head.box(x).mean() + self.head.masks(x).mean()
        return {'loss': loss} if mode == 'loss' else [loss]


HEAD = {f'head.{name}.{kind}' for name in ('masks', 'label', 'box') for kind in ('weight', 'bias')}


def checkpoint_of(model: nn.Module) -> dict:
    return {'state_dict': {key: tensor.clone() for key, tensor in model.state_dict().items()}, 'meta': {}}


def test_same_model() -> None:
    source, target = Model(), Model()
    report = load_model(target, checkpoint_of(source), 'a.pth')
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )
    assert str(report) == f'a.pth: {report.total} of {report.total} model tensors matched'


def test_other_classes() -> None:
    source, target = Model(classes=80), Model(classes=3)
    before = checkpoint_of(target)['state_dict']
    checkpoint = checkpoint_of(source)
    with pytest.raises(RuntimeError, match=r'a\.pth knows 80 classes and the model 3 \(head\.masks.*set num_classes'):
        load_model(target, checkpoint, 'work/a.pth')
    report = load_model(target, checkpoint, 'work/a.pth', new_classes=True)
    assert set(report.new) == HEAD
    assert report.matched == report.total - 6
    assert all(name in str(report) for name in HEAD)
    assert 'head.box.bias (80 classes in the file, 3 in the model)' in str(report)
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[key] if key in HEAD else source.state_dict()[key]), key


def test_other_size_of_the_position_embedding() -> None:
    source, target = Model(size=64), Model(size=128)
    report = load_model(target, checkpoint_of(source), 'a.pth')
    assert report.done == ['position embedding 4 x 4 resized to 8 x 8']


def test_official_layout_and_wrapper() -> None:
    source, target = Model(), Model()
    state = {'module.' + key: tensor for key, tensor in to_official(source.state_dict()).items()}
    load_model(target, {'state_dict': state}, 'a.pth')
    assert torch.equal(target.backbone.layers[0].mixer.Ds, source.backbone.layers[0].mixer.Ds)


def drop(*names: str) -> Callable[[dict], None]:
    return lambda state: [state.pop(key) for key in list(state) if key.startswith(names)]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (drop('head.label'), r'2 missing: head\.label\.weight, head\.label\.bias'),
        (drop('backbone.layers.0.mixer.A_logs'), 'holds a model that is not known here, the model is Vim'),
        (drop('backbone.layers.0.norm'), r'1 missing in the file: layers\.0\.norm\.weight'),
        (drop('backbone.'), r'no tensor under backbone\..*model\.backbone\.init_cfg'),
        (lambda state: state.update(extra=torch.ones(1)), '1 unknown to the model: extra'),
        (lambda state: state.update({'head.hidden.bias': torch.ones(9)}), r'hidden\.bias \(9,\) for \(8,\)'),
        (lambda state: state.update({'neck.weight': torch.ones(3)}), r'neck\.weight \(3,\) for \(32,\)'),
    ],
)
def test_anything_else_is_an_error(change: Callable, message: str) -> None:
    checkpoint = checkpoint_of(Model())
    change(checkpoint['state_dict'])
    with pytest.raises(RuntimeError, match=message):
        load_model(Model(), checkpoint, 'a.pth', new_classes=True)


def test_missing_counters_of_batch_norm_are_no_error() -> None:
    checkpoint = checkpoint_of(Model())
    del checkpoint['state_dict']['neck.num_batches_tracked']
    load_model(Model(), checkpoint, 'a.pth')


@pytest.mark.parametrize(
    ('shapes', 'expected'),
    [
        ({'head.masks.weight': ((80, 8), (3, 8))}, (80, 3)),
        ({'head.label.weight': ((81, 8), (4, 8)), 'head.box.weight': ((320, 8), (12, 8))}, (80, 3)),
        ({'head.label.weight': ((81, 8), (4, 8)), 'head.box.weight': ((60, 8), (12, 8))}, None),
        ({'head.masks.weight': ((80, 9), (3, 8))}, None),
        ({'head.masks.weight': ((80, 8), (5, 8))}, None),
        ({'head.masks.weight': ((80,), (3, 8))}, None),
        ({'neck.weight': ((80,), (3,))}, None),
    ],
)
def test_explain_classes(shapes: dict, expected: tuple[int, int] | None) -> None:
    shapes = {name: (torch.Size(theirs), torch.Size(ours)) for name, (theirs, ours) in shapes.items()}
    assert explain_classes(Model(classes=3), shapes) == expected


class Images(Dataset):
    """Eight noise images."""

    metainfo = {'classes': ('a', 'b', 'c')}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        return {'inputs': torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(index))}


def runner(work_dir: Path, model: nn.Module, **kwargs: object) -> Runner:
    loader = {'dataset': Images(), 'batch_size': 2, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    return Runner(
        model,
        str(work_dir),
        train_dataloader=loader,
        train_cfg={'by_epoch': False, 'max_iters': kwargs.pop('iterations', 2)},
        optim_wrapper={'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-3}},
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=[],
        param_scheduler={'type': 'OneCycleLR', 'eta_max': 1e-3, 'total_steps': 4, 'by_epoch': False},
        default_hooks={'checkpoint': {'type': 'CheckpointHook', 'interval': 2, 'by_epoch': False}},
        randomness={'seed': 0},
        log_level='WARNING',
        experiment_name=f'{work_dir.name}_{kwargs}',
        **kwargs,
    )


class Look(Hook):
    """Notes what a run starts with."""

    def before_train(self, runner: Runner) -> None:
        """Note the iteration, a weight and the length of the history."""
        self.seen = runner.iter, runner.model.head.box.bias.clone(), runner.message_hub.get_scalar('train/loss')


def test_runner_resumes(tmp_path: Path) -> None:
    """With the moving average, which keeps weights of its own in the file."""
    look = Look()
    runner(tmp_path / 'a', Model(), custom_hooks=[{'type': 'EMAHook'}]).train()
    first = read(tmp_path / 'a' / 'iter_2.pth')
    runner(tmp_path / 'a', Model(), custom_hooks=[{'type': 'EMAHook'}, look], iterations=4, resume=True).train()
    iteration, bias, history = look.seen
    own = first['ema_state_dict']['module.head.box.bias']
    assert iteration == 2 and torch.equal(bias, own)
    assert not torch.equal(own, first['state_dict']['head.box.bias'])
    last = read(tmp_path / 'a' / 'iter_4.pth')
    assert last['meta']['iter'] == 4
    assert last['message_hub']['log_scalars']['train/loss'].data[0].shape == (4,)
    assert history.data[0].shape == (4,)


def test_runner_starts_with_other_classes(tmp_path: Path) -> None:
    source = Model(classes=80)
    save_checkpoint(checkpoint_of(source), str(tmp_path / 'coco.pth'))
    model = Model(classes=3)
    run = runner(tmp_path / 'b', model, load_from=str(tmp_path / 'coco.pth'), custom_hooks=[{'type': 'EMAHook'}])
    with pytest.raises(RuntimeError, match='knows 80 classes and the model 3'):
        run.test()
    run = runner(tmp_path / 'c', model, load_from=str(tmp_path / 'coco.pth'), custom_hooks=[{'type': 'EMAHook'}])
    run.train()
    assert (tmp_path / 'c' / 'iter_2.pth').exists()


def test_runner_resumes_nothing_but_runs(tmp_path: Path) -> None:
    save_checkpoint({'state_dict': checkpoint_of(Model())['state_dict']}, str(tmp_path / 'weights.pth'))
    run = runner(tmp_path / 'd', Model(), load_from=str(tmp_path / 'weights.pth'), resume=True)
    with pytest.raises(ValueError, match=r'weights\.pth holds weights but not the state of a run: .*load_from='):
        run.train()


def test_runner_by_name() -> None:
    assert RUNNERS.get('mmvim.Runner') is Runner
