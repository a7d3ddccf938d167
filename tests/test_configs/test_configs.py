"""Every shipped config: it parses, builds, runs, and trains the parameter groups that it says."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from mmengine.structures import PixelData

from mmvim.catalogue import FILES, OFFICIAL_WEIGHTS
from mmvim.engine import group_table
from mmvim.miniature.data_sets import ensure_miniature

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ROOT / 'tests' / 'data' / 'optim_groups'
# Folders of configs, and how many are in them at least.
FAMILIES = {
    'vim': 15, 'vmamba': 15, 'localvim': 8, 'localvmamba': 6, 'efficientvmamba': 12, 'plainmamba': 9, 'mambaout': 6,
    'mambavision': 6, 'baselines': 12,
}  # fmt: skip
CONFIGS = sorted(p.relative_to(ROOT / 'configs') for family in FAMILIES for p in ROOT.glob(f'configs/{family}/*.py'))
NAMES = [str(path.with_suffix('')) for path in CONFIGS if not path.stem.endswith('_imagenet')]
# They are evaluated and not trained; tests/test_models/test_classifiers.py runs them.
CLASSIFIERS = [str(path.with_suffix('')) for path in CONFIGS if path.stem.endswith('_imagenet')]
# ConvNeXt is mmpretrain's, which the tests do without.
FOREIGN = [name for name in NAMES if 'convnext' in name]
BUILT = [name for name in NAMES if name not in FOREIGN]


@cache
def _read(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def read(name: str) -> Config:
    """A config, which the test may change."""
    return deepcopy(_read(name))


def build(cfg: Config, device: str) -> torch.nn.Module:
    """The model of a config without pretrained weights; on 'meta' it has shapes and no memory."""
    cfg.model.backbone.init_cfg = None
    if 'Swin' in cfg.model.backbone.type:
        device = 'cpu'  # it works its drop path rates out with tensors
    init_default_scope(cfg.default_scope)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device(device):
        return revert_sync_batchnorm(MODELS.build(cfg.model))


def batch(cfg: Config, height: int, width: int) -> dict:
    """Two images of noise with labels, as the data loader of the config would give them."""
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(2, (3, height, width), num_items=[1, 2], num_classes=80, with_mask=True)
    from mmseg.structures import SegDataSample

    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    labels = torch.randint(0, cfg.model.decode_head.num_classes, (2, 1, height, width))
    return {'inputs': list(images), 'data_samples': [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels]}


def test_there_are_configs() -> None:
    for family, count in FAMILIES.items():
        assert sum(name.startswith(f'{family}/') for name in NAMES) >= count
    assert len(FOREIGN) == 2
    assert len(CLASSIFIERS) == 36


@pytest.mark.parametrize('name', NAMES)
def test_fields(name: str) -> None:
    cfg = read(name)
    assert cfg.custom_imports == {'imports': ['mmvim'], 'allow_failed_imports': False}
    scopes = ('mmvim', cfg.default_scope) if name.startswith('baselines/') else ('mmvim',)
    assert cfg.model.backbone.type.partition('.')[0] in scopes
    # The GPUs that the comment beside base_batch_size names.
    assert cfg.auto_scale_lr.base_batch_size in (
        4 * cfg.train_dataloader.batch_size,
        8 * cfg.train_dataloader.batch_size,
    )
    assert cfg.default_hooks.checkpoint.type == 'mmvim.SafeCheckpointHook'
    init_cfg = cfg.model.backbone.get('init_cfg')
    if init_cfg is not None:
        folder, _, file = init_cfg.checkpoint.partition('/')
        assert folder == 'weights'
        assert file in OFFICIAL_WEIGHTS
        assert OFFICIAL_WEIGHTS[file].rpartition('hustvl/')[-1] in _sources(name)
    if 'rope' in cfg.model.backbone:
        assert init_cfg is None, 'no published weights have RoPE'


def _sources(name: str) -> str:
    """The text of a config and of those of its own folder that it builds on."""
    path = ROOT / 'configs' / f'{name}.py'
    return path.read_text() + (ROOT / 'configs' / f'{name.removesuffix("_official")}.py').read_text()


def _bases(path: Path) -> list[Path]:
    return [path.parent / base for base in Config._get_base_files(str(path))]


@pytest.mark.parametrize('name', NAMES + CLASSIFIERS)
def test_few_levels(name: str) -> None:
    """A config stands on bases or on one other config, and a base at most on neutral ones."""

    def depth(path: Path, inside_bases: bool) -> int:
        below = [base for base in _bases(path) if ('_base_' in base.parts) == inside_bases]
        return 1 + max((depth(base, inside_bases) for base in below), default=0)

    path = ROOT / 'configs' / f'{name}.py'
    assert depth(path, inside_bases=False) <= 2
    for base in {base for config in (path, *_bases(path)) for base in _bases(config) if '_base_' in base.parts}:
        assert depth(base, inside_bases=True) <= 2


@pytest.mark.parametrize('name', [name for name in NAMES + CLASSIFIERS if 'deit' not in name])
def test_nothing_inherits_from_another_family(name: str) -> None:
    """But for DeiT, whose configs are Vim's with another backbone on purpose."""

    def bases(path: Path) -> set[str]:
        return {path.stem}.union(*(bases(base) for base in _bases(path)))

    families = ('efficientvmamba', 'plainmamba', 'vmamba', 'mambaout', 'mambavision', 'vim')
    family = next((family for family in families if family in name), 'none')
    foreign = {*families, 'resnet'} - {family, 'resnet' if 'resnet' in name else ''}
    parts = {part for stem in bases(ROOT / 'configs' / f'{name}.py') for part in stem.split('_')}
    assert not parts & foreign


@pytest.mark.parametrize('name', BUILT)
def test_training_step(name: str) -> None:
    """The whole model takes an image that is not square and whose sides are no multiples of the patch."""
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = read(name)
    size = (56, 88)
    if 'window_sizes' in cfg.model.backbone:
        cfg.model.backbone.window_sizes = (5, 3)  # those of large images only take time here
    if 'size' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.size = size
    else:
        cfg.model.data_preprocessor.pad_size_divisor = 1
        rcnn = cfg.model.train_cfg.get('rcnn', [])
        for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
            stage.sampler.num = 16
    model = build(cfg, 'cpu')
    data = model.data_preprocessor(batch(cfg, *size), training=True)
    with torch.no_grad():
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(loss)
    assert loss > 0


@pytest.mark.parametrize('name', [name for name in BUILT if 'mask_rcnn' in name or 'retinanet' in name])
def test_images_are_padded(name: str) -> None:
    cfg = read(name)
    model = build(cfg, 'meta')
    model.data_preprocessor.to_empty(device='cpu')
    for training in (True, False):
        data = model.data_preprocessor(batch(cfg, 100, 120), training=training)
        lsj = '1024' in str(cfg.train_pipeline)
        assert data['inputs'].shape[-2:] == ((1024, 1024) if lsj else (128, 128))


@pytest.mark.parametrize('name', BUILT)
def test_parameter_groups(name: str) -> None:
    """The groups are those on file. To renew a file: print the table that this test compares, and read it."""
    cfg = read(name)
    wrapper = build_optim_wrapper(build(cfg, 'meta'), cfg.optim_wrapper)
    table = [str(row) for row in group_table(wrapper)]
    # An official form has the parameters and the groups of the form beside it, unless it has a file of its own.
    stem = Path(name).name
    file = GROUPS / f'{stem}.txt'
    if not file.exists():
        file = GROUPS / f'{stem.removesuffix("_official")}.txt'
    assert table == file.read_text().splitlines()


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (
            'vim/upernet_vim_t_ade20k',
            {
                # name: learning rate, weight decay
                'backbone.pos_embed': (2e-4 * 0.92**25, 0.1),
                'backbone.patch_embed.proj.weight': (2e-4 * 0.92**25, 0.1),
                'backbone.patch_embed.proj.bias': (2e-4 * 0.92**25, 0.0),
                'backbone.layers.0.mixer.in_proj.weight': (2e-4, 0.1),
                'backbone.layers.0.mixer.A_logs': (2e-4, 0.1),
                'backbone.layers.0.mixer.Ds': (2e-4, 0.0),
                'backbone.layers.0.mixer.conv1d_weight': (2e-4, 0.1),
                'backbone.layers.0.mixer.conv1d_bias': (2e-4, 0.0),
                'backbone.layers.23.mixer.dt_projs_weight': (2e-4, 0.1),
                'backbone.layers.23.mixer.dt_projs_bias': (2e-4, 0.0),
                'backbone.layers.23.norm.weight': (2e-4, 0.0),
                'neck.fpn1.0.weight': (2e-4, 0.1),
                'neck.fpn1.1.weight': (2e-4, 0.0),
                'decode_head.conv_seg.weight': (2e-4, 0.1),
                'decode_head.conv_seg.bias': (2e-4, 0.0),
            },
        ),
        (
            'vim/cascade_mask_rcnn_vim_s_coco',
            {
                'backbone.pos_embed': (1e-4 * 0.837**25, 0.0),
                'backbone.patch_embed.proj.bias': (1e-4 * 0.837**25, 0.1),
                'backbone.layers.0.mixer.A_logs': (1e-4 * 0.837**24, 0.1),
                'backbone.layers.0.mixer.Ds': (1e-4 * 0.837**24, 0.1),
                'backbone.layers.23.mixer.dt_projs_bias': (1e-4 * 0.837, 0.1),
                'backbone.layers.23.norm.weight': (1e-4 * 0.837, 0.1),
                'neck.simfp_2.1.weight': (1e-4, 0.1),
                'rpn_head.rpn_cls.bias': (1e-4, 0.1),
            },
        ),
        (
            'vim/mask_rcnn_vim_b_coco',
            {
                'backbone.pos_embed': (1e-4 * 0.7**25, 0.0),
                'backbone.layers.0.mixer.A_logs': (1e-4 * 0.7**24, 0.0),
                'backbone.layers.0.mixer.in_proj.weight': (1e-4 * 0.7**24, 0.05),
                'backbone.layers.23.norm.weight': (1e-4 * 0.7, 0.0),
                'rpn_head.rpn_cls.bias': (1e-4, 0.0),
            },
        ),
        (
            'vmamba/mask_rcnn_vmamba_t_coco',
            {
                'backbone.patch_embed.2.norm.weight': (1e-4, 0.05),
                'backbone.patch_embed.0.conv.bias': (1e-4, 0.05),
                'backbone.layers.0.downsample.norm.bias': (1e-4, 0.05),
                'backbone.layers.0.blocks.0.norm.weight': (1e-4, 0.0),
                'backbone.layers.2.blocks.7.norm2.bias': (1e-4, 0.0),
                'backbone.layers.2.blocks.7.op.out_norm.weight': (1e-4, 0.0),
                'backbone.layers.2.blocks.7.op.A_logs': (1e-4, 0.05),
                'backbone.layers.2.blocks.7.op.Ds': (1e-4, 0.05),
                'backbone.layers.2.blocks.7.op.dt_projs_bias': (1e-4, 0.05),
                'backbone.layers.2.blocks.7.mlp.fc1.bias': (1e-4, 0.05),
                'backbone.outnorm3.weight': (1e-4, 0.0),
                'rpn_head.rpn_cls.bias': (1e-4, 0.05),
            },
        ),
        (
            'mambavision/cascade_mask_rcnn_mambavision_b_3x_coco',
            {
                'backbone.patch_embed.norm1.weight': (2e-4, 0.05),
                'backbone.levels.0.blocks.0.conv1.bias': (2e-4, 0.05),
                'backbone.levels.0.blocks.0.norm.weight': (2e-4, 0.0),
                'backbone.levels.2.blocks.0.norm2.bias': (2e-4, 0.0),
                'backbone.levels.2.blocks.0.gamma_1': (2e-4, 0.05),
                'backbone.levels.2.blocks.0.mixer.A_logs': (2e-4, 0.05),
                'backbone.levels.2.blocks.0.mixer.Ds': (2e-4, 0.05),
                'backbone.levels.2.blocks.0.mixer.dt_projs_bias': (2e-4, 0.05),
                'backbone.levels.3.blocks.4.mixer.qkv.bias': (2e-4, 0.05),
                'backbone.outnorm3.weight': (2e-4, 0.0),
                'roi_head.bbox_head.0.shared_convs.0.bn.weight': (2e-4, 0.05),
            },
        ),
        (
            'efficientvmamba/mask_rcnn_efficientvmamba_t_coco',
            {
                'backbone.patch_embed.0.norm.weight': (1e-4, 0.05),
                'backbone.layers.0.downsample.norm.bias': (1e-4, 0.0),
                'backbone.layers.0.blocks.0.norm.weight': (1e-4, 0.0),
                'backbone.layers.0.blocks.0.se.norm.bias': (1e-4, 0.0),
                'backbone.layers.0.blocks.0.op.out_norm.weight': (1e-4, 0.0),
                'backbone.layers.0.blocks.0.op.A_logs': (1e-4, 0.05),
                'backbone.layers.0.blocks.0.op.Ds': (1e-4, 0.05),
                'backbone.layers.0.blocks.0.op.dt_projs_bias': (1e-4, 0.05),
                'backbone.layers.0.blocks.0.conv_branch.1.weight': (1e-4, 0.05),
                'backbone.layers.2.blocks.0.conv_pw.1.bias': (1e-4, 0.05),
                'backbone.outnorm0.weight': (1e-4, 0.0),
            },
        ),
        (
            'plainmamba/mask_rcnn_plainmamba_l1_coco',
            {
                'backbone.pos_embed': (1e-4, 0.0),
                'backbone.level_embed': (1e-4, 0.0),
                'backbone.patch_embed.stem.1.weight': (1e-4, 0.05),
                'backbone.patch_embed.stem.1.bias': (1e-4, 0.0),
                'backbone.layers.0.norm.weight': (1e-4, 0.0),
                'backbone.layers.0.mamba.A_logs': (1e-4, 0.0),
                'backbone.layers.0.mamba.Ds': (1e-4, 0.0),
                'backbone.layers.0.mamba.direction_Bs': (1e-4, 0.0),
                'backbone.layers.0.mamba.dt_projs_bias': (1e-4, 0.0),
                'backbone.layers.0.mamba.dt_projs_weight': (1e-4, 0.05),
                'backbone.interactions.0.injector.gamma': (1e-4, 0.05),
                'backbone.ad_norm1.weight': (1e-4, 0.0),
                'neck.lateral_convs.0.bn.weight': (1e-4, 0.05),
                'rpn_head.rpn_cls.bias': (1e-4, 0.0),
            },
        ),
        (
            'plainmamba/upernet_plainmamba_l1_ade20k',
            {
                'backbone.pos_embed': (6e-5, 0.0),
                'backbone.outnorm5.weight': (6e-5, 0.0),
                'backbone.norm_f.weight': (6e-5, 0.01),
                'backbone.layers.0.mamba.A_logs': (6e-5, 0.0),
                'backbone.layers.0.mamba.direction_Bs': (6e-5, 0.0),
                'backbone.layers.0.mamba.dt_projs_bias': (6e-5, 0.01),
                'backbone.layers.0.mamba.in_proj.bias': (6e-5, 0.01),
                'decode_head.fpn_bottleneck.bn.weight': (6e-5, 0.01),
            },
        ),
        (
            'localvim/mask_rcnn_localvim_t_coco_official',
            {
                'backbone.pos_embed': (1e-4 * 0.7**13, 0.0),
                'backbone.patch_embed.proj.bias': (1e-4 * 0.7**13, 0.05),
                'backbone.layers.0.mixer.A_logs': (1e-4, 0.05),
                'backbone.layers.0.norm.bias': (1e-4, 0.05),
                'backbone.layers.19.mixer.attn.norm.weight': (1e-4, 0.05),
                'backbone.outnorm0.weight': (1e-4, 0.05),
            },
        ),
        (
            'localvim/upernet_localvim_t_ade20k',
            {
                'backbone.pos_embed': (6e-5, 0.0),
                'backbone.layers.0.mixer.Ds': (6e-5, 0.01),
                'backbone.layers.0.mixer.conv1d_bias': (6e-5, 0.01),
                'backbone.layers.0.mixer.attn.norm.bias': (6e-5, 0.0),
                'backbone.layers.0.mixer.attn.global_reduce.bias': (6e-5, 0.01),
                'backbone.layers.19.norm.weight': (6e-5, 0.0),
                'backbone.outnorm3.bias': (6e-5, 0.0),
                'decode_head.fpn_bottleneck.bn.weight': (6e-5, 0.01),
            },
        ),
        (
            'localvmamba/mask_rcnn_localvmamba_t_coco',
            {
                'backbone.patch_embed.0.norm.weight': (1e-4, 0.05),
                'backbone.layers.0.downsample.norm.bias': (1e-4, 0.0),
                'backbone.layers.2.blocks.8.op.attn.norm.weight': (1e-4, 0.0),
                'backbone.layers.2.blocks.8.op.attn.channel_select.bias': (1e-4, 0.05),
                'backbone.layers.2.blocks.8.op.A_logs': (1e-4, 0.05),
            },
        ),
        (
            'vmamba/upernet_vmamba_v0_b_ade20k',
            {
                'backbone.patch_embed.0.norm.weight': (6e-5, 0.0),
                'backbone.patch_embed.0.conv.weight': (6e-5, 0.01),
                'backbone.layers.0.downsample.norm.bias': (6e-5, 0.0),
                'backbone.layers.0.downsample.reduction.weight': (6e-5, 0.01),
                'backbone.layers.3.blocks.1.op.conv2d.bias': (6e-5, 0.01),
                'decode_head.fpn_bottleneck.bn.weight': (6e-5, 0.01),
                'decode_head.conv_seg.bias': (6e-5, 0.01),
            },
        ),
    ],
)
def test_rates_of_single_parameters(name: str, expected: dict[str, tuple[float, float]]) -> None:
    """What upstream gives to its parameters, worked out by hand; rates at the end of the warm-up."""
    cfg = read(name)
    model = build(cfg, 'meta')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    settings = {id(p): (group['lr'], group['weight_decay']) for group in wrapper.param_groups for p in group['params']}
    found = {parameter: settings[id(p)] for parameter, p in model.named_parameters()}
    assert {key: found[key] for key in expected} == {key: pytest.approx(value) for key, value in expected.items()}


@pytest.mark.parametrize('family', FAMILIES)
def test_metafile_and_readme_name_every_config(family: str) -> None:
    metafile = yaml.safe_load((ROOT / f'configs/{family}/metafile.yml').read_text())
    names = [f'configs/{name}.py' for name in NAMES + CLASSIFIERS if name.startswith(f'{family}/')]
    assert sorted(model['Config'] for model in metafile['Models']) == sorted(names)
    readme = (ROOT / f'configs/{family}/README.md').read_text()
    for model in metafile['Models']:
        name = Path(model['Config']).stem
        assert model['Alias'] == name
        assert f'[{name}]({name}.py)' in readme
        assert ('Results' in model) == ('Weights' in model), 'a result needs weights that somebody can check'
        if 'Weights' in model:
            (file,) = {file.name for file in FILES.values() if file.address == model['Weights']}
            # The page, and with it the release, is that of the address.
            assert OFFICIAL_WEIGHTS[file].rpartition('/')[2].split('.')[0] in model['Weights']
            row = next(line for line in readme.splitlines() if f'[{name}]({name}.py)' in line)
            cells = [cell.strip() for cell in row.split('|')]
            results = [value for result in model['Results'] for value in result['Metrics'].values()]
            if f'{family}/{name}' in CLASSIFIERS:
                assert {f'`{file}`', f'{results[0]:.1f}'} <= {*cells}
            else:
                assert f'`{file}`' in cells[-2]
                assert [str(value) for value in results] == cells[4 : 4 + len(results)]
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert f'configs/{family}/metafile.yml' in index['Import']


@pytest.mark.parametrize('name', BUILT)
def test_metafile_states_the_size(name: str) -> None:
    metafile = yaml.safe_load((ROOT / 'configs' / name).with_name('metafile.yml').read_text())
    entry = next(model for model in metafile['Models'] if model['Config'] == f'configs/{name}.py')
    cfg = read(name)
    millions = sum(p.numel() for p in build(cfg, 'meta').parameters()) / 1e6
    assert entry['Metadata']['Parameters (M)'] == pytest.approx(millions, abs=0.006)
    assert entry['Metadata']['Batch Size'] == cfg.auto_scale_lr.base_batch_size


def test_vmamba_recipes() -> None:
    """The numbers of upstream's recipes, whichever base they come from."""
    short, long = read('vmamba/mask_rcnn_vmamba_s_coco'), read('vmamba/mask_rcnn_vmamba_s_3x_coco')
    for cfg, epochs, steps in ((short, 12, [8, 11]), (long, 36, [27, 33])):
        assert cfg.train_cfg.max_epochs == epochs == cfg.param_scheduler[1].end
        assert cfg.param_scheduler[1].milestones == steps
        assert (cfg.param_scheduler[0].start_factor, cfg.param_scheduler[0].end) == (0.001, 1000)
        assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (1e-4, 0.05)
        assert cfg.model.backbone.drop_path_rate == 0.3
    segmentation = read('vmamba/upernet_vmamba_b_ade20k')
    warmup, fall = segmentation.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-6, 1500)
    assert (fall.begin, fall.end, fall.power) == (1500, 160000, 1.0) and segmentation.train_cfg.max_iters == 160000
    optimizer = segmentation.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, segmentation.model.backbone.drop_path_rate) == (6e-5, 0.01, 0.6)
    heads = segmentation.model.decode_head, segmentation.model.auxiliary_head
    assert [head.channels for head in heads] == [512, 256] and heads[1].in_channels == 512
    assert segmentation.model.test_cfg.mode == 'whole' and segmentation.model.neck is None
    first = read('vmamba/upernet_vmamba_v0_s_ade20k'), read('vmamba/mask_rcnn_vmamba_v0_b_coco')
    assert [cfg.model.backbone.drop_path_rate for cfg in first] == [0.3, 0.2]


def test_training_at_many_scales(tmp_path: Path) -> None:
    """The pipeline of the long recipe: short sides from 480 to 800, also behind a crop."""
    ensure_miniature('coco', tmp_path / 'coco', train=2, val=1, progress=False)
    cfg = read('vmamba/mask_rcnn_vmamba_t_3x_coco').train_dataloader.dataset
    cfg.data_root = f'{tmp_path}/coco/'
    np.random.seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg)
    samples = [dataset[i % 2] for i in range(16)]
    shapes = {tuple(sample['inputs'].shape[1:]) for sample in samples}
    assert all(min(shape) in range(480, 801) and max(shape) <= 1333 for shape in shapes)
    # The pictures are square until they are cropped.
    assert {height == width for height, width in shapes} == {True, False}
    for sample in samples:
        assert sample['data_samples'].gt_instances.masks.masks.shape[1:] == sample['inputs'].shape[1:]


@pytest.mark.parametrize('name', FOREIGN)
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mmpretrain a config of ConvNeXt is read, and building it says what to install."""
    monkeypatch.setattr('mmvim.models.backbones.convnext.find_spec', lambda _: None)
    cfg = read(name)
    assert cfg.model.backbone.arch == 'tiny'
    with pytest.raises(
        ModuleNotFoundError, match='comes from mmpretrain, which is not installed: pip install mmpretrain'
    ):
        build(cfg, 'cpu')


def test_mambavision_recipe() -> None:
    """Upstream's numbers; the rate of dropped paths is that which its code takes, whatever its configs say."""
    windows = {'t': (64, 32), 's': (160, 56), 'b': (64, 32)}
    rates = {'t': (1e-4, 5e-5), 's': (1e-4, 6e-5), 'b': (2e-4, 5e-5)}
    for variant in 'tsb':
        detection = read(f'mambavision/cascade_mask_rcnn_mambavision_{variant}_3x_coco')
        segmentation = read(f'mambavision/upernet_mambavision_{variant}_ade20k')
        for cfg, rate, decay in zip((detection, segmentation), rates[variant], (0.05, 0.01), strict=True):
            optimizer = cfg.optim_wrapper.optimizer
            assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', rate, decay)
            assert cfg.model.backbone.drop_path_rate == 0.2
            assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
        assert detection.model.backbone.window_sizes == (112, 56)
        assert segmentation.model.backbone.window_sizes == windows[variant]
        assert detection.train_cfg.max_epochs == 36 == detection.param_scheduler[1].end
        assert detection.param_scheduler[1].milestones == [27, 33]
        heads = detection.model.roi_head.bbox_head
        assert [head.bbox_coder.target_stds[2] for head in heads] == [0.2, 0.1, 0.067]
        assert {(head.loss_bbox.type, head.norm_cfg.type, head.reg_class_agnostic) for head in heads} == {
            ('GIoULoss', 'SyncBN', False)
        }
        assert segmentation.train_cfg.max_iters == segmentation.param_scheduler[1].end == 160000
        assert segmentation.crop_size == (512, 512) and segmentation.model.test_cfg.mode == 'whole'
    crops = {
        name: read(f'mambavision/mambavision_{name}_imagenet').test_pipeline[0].resize for name in ('t', 't2', 's')
    }
    assert crops == {'t': 224, 't2': 228, 's': 240}  # 224 / 1.0, 0.98, 0.93, rounded down


def test_mambaout_recipe() -> None:
    """What the paper states, and what we chose where it states nothing."""
    for variant, drop_path in (('t', 0.3), ('s', 0.4), ('b', 0.6)):
        detection = read(f'mambaout/mask_rcnn_mambaout_{variant}_coco')
        segmentation = read(f'mambaout/upernet_mambaout_{variant}_ade20k')
        for cfg in (detection, segmentation):
            assert cfg.optim_wrapper.optimizer.type == 'AdamW'
            assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (1e-4, 0.05)
            assert cfg.optim_wrapper.paramwise_cfg == {'layer_decay_rate': 1.0}
            assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
            assert cfg.model.backbone.drop_path_rate == drop_path
        assert detection.train_cfg.max_epochs == 12 and detection.param_scheduler[1].milestones == [8, 11]
        assert detection.train_pipeline[2].scale == (1333, 800)
        assert segmentation.train_cfg.max_iters == segmentation.param_scheduler[1].end == 160000
        assert segmentation.crop_size == (512, 512) and segmentation.model.test_cfg.mode == 'whole'


def test_efficientvmamba_recipes() -> None:
    """The authors' config of Mask R-CNN; what the paper states of the others, whose code is not published."""
    for variant in 'tsb':
        short, long, retinanet = (
            read(f'efficientvmamba/{method}_efficientvmamba_{variant}{extra}_coco')
            for method, extra in (('mask_rcnn', ''), ('mask_rcnn', '_3x'), ('retinanet', ''))
        )
        segmentation = read(f'efficientvmamba/upernet_efficientvmamba_{variant}_ade20k')
        assert (short.train_cfg.max_epochs, long.train_cfg.max_epochs, retinanet.train_cfg.max_epochs) == (12, 36, 12)
        assert (short.param_scheduler[1].milestones, long.param_scheduler[1].milestones) == ([8, 11], [27, 33])
        optimizers = [cfg.optim_wrapper.optimizer for cfg in (short, long, retinanet, segmentation)]
        assert [(o.type, o.lr, o.weight_decay) for o in optimizers] == [
            ('AdamW', 1e-4, 0.05), ('AdamW', 1e-4, 0.05), ('AdamW', 1e-4, 1e-4), ('AdamW', 6e-5, 0.01)
        ]  # fmt: skip
        assert {cfg.model.backbone.drop_path_rate for cfg in (short, long, retinanet, segmentation)} == {0.1}
        assert segmentation.train_cfg.max_iters == 160000 and segmentation.crop_size == (512, 512)


def test_plainmamba_recipes() -> None:
    for variant, drop_path, heads in (('l1', 0.1, 6), ('l2', 0.2, 6), ('l3', 0.3, 8)):
        detectors = [read(f'plainmamba/{method}_plainmamba_{variant}_coco') for method in ('mask_rcnn', 'retinanet')]
        segmentation = read(f'plainmamba/upernet_plainmamba_{variant}_ade20k')
        for cfg in (*detectors, segmentation):
            backbone = cfg.model.backbone
            assert backbone.raster_parameters and backbone.double_dt_bias and backbone.drop_path_rate == drop_path
            assert cfg.sync_bn == 'torch' and cfg.auto_scale_lr.base_batch_size == 16
        for cfg in detectors:
            assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (1e-4, 0.05)
            assert (cfg.param_scheduler[0].end, cfg.param_scheduler[1].milestones) == (500, [8, 11])
            attention = build(cfg, 'meta').backbone.interactions[0].injector.attn
            assert attention.shape == (heads, 3, 4)
        masks, boxes = detectors
        assert masks.train_dataloader.dataset.filter_cfg.filter_empty_gt is False
        assert boxes.train_dataloader.dataset.filter_cfg.filter_empty_gt is True
        assert masks.model.roi_head.bbox_head.type == 'Shared4Conv1FCBBoxHead'
        assert 'clip_grad' not in masks.optim_wrapper and boxes.optim_wrapper.clip_grad.max_norm == 35
        assert [cfg.default_hooks.checkpoint.save_best for cfg in detectors] == ['coco/segm_mAP', 'coco/bbox_mAP']
        assert (segmentation.optim_wrapper.optimizer.lr, segmentation.optim_wrapper.optimizer.weight_decay) == (
            6e-5,
            0.01,
        )
        assert segmentation.model.auxiliary_head.in_index == 3 and segmentation.model.test_cfg.mode == 'whole'
        assert segmentation.test_dataloader.dataset.pipeline[2] == {'type': 'ResizeToMultiple', 'size_divisor': 32}


def test_localmamba_recipes() -> None:
    """The numbers of upstream's configs, and in the official forms what its models do otherwise."""
    for size, width in (('t', 192), ('s', 384)):
        for form in ('', '_official'):
            segmentation = read(f'localvim/upernet_localvim_{size}_ade20k{form}')
            detection = read(f'localvim/mask_rcnn_localvim_{size}_coco{form}')
            for cfg, side in ((segmentation, 512), (detection, 1024)):
                backbone = cfg.model.backbone
                assert (backbone.pretrain_img_size, backbone.drop_path_rate) == (side, 0.1)
                quirks = {'feature': 'branch', 'norm': 'layer', 'legacy_reverse': True} if form else {}
                assert {
                    key: backbone[key] for key in ('feature', 'norm', 'legacy_reverse') if key in backbone
                } == quirks
            assert segmentation.model.decode_head.in_channels == [width] * 4 and segmentation.model.neck is None
            assert segmentation.model.backbone.out_indices == (4, 9, 14, 19)
            assert segmentation.train_cfg.max_iters == 160000 and segmentation.model.test_cfg.mode == 'whole'
            optimizer = segmentation.optim_wrapper.optimizer
            assert (optimizer.lr, optimizer.weight_decay) == (6e-5, 0.01)
            optimizer = detection.optim_wrapper.optimizer
            assert (optimizer.lr, optimizer.weight_decay, detection.train_cfg.max_iters) == (1e-4, 0.05, 184375)
            assert detection.optim_wrapper.clip_grad.max_norm == 35 and detection.model.rpn_head.num_convs == 2
    for size, rates in (('t', (0.2, 0.1)), ('s', (0.2, 0.2))):
        names = [f'mask_rcnn_localvmamba_{size}_coco', f'upernet_localvmamba_{size}_ade20k']
        found = tuple(read(f'localvmamba/{name}').model.backbone.drop_path_rate for name in names)
        assert found == rates
        assert read(f'localvmamba/mask_rcnn_localvmamba_{size}_3x_coco').train_cfg.max_epochs == 36


@pytest.mark.parametrize('method', ['upernet', 'cascade_mask_rcnn'])
@pytest.mark.parametrize('size', ['t', 's'])
def test_only_the_backbone_differs(method: str, size: str) -> None:
    """DeiT's configs are Vim's but for the backbone and the decay of rates, the same over half as many layers."""
    data = 'ade20k' if method == 'upernet' else 'coco'
    vim, deit = read(f'vim/{method}_vim_{size}_{data}'), read(f'baselines/{method}_deit_{size}_{data}')
    rates = [cfg.optim_wrapper.paramwise_cfg.pop('layer_decay_rate') for cfg in (vim, deit)]
    assert rates[1] == pytest.approx(rates[0] ** 2, rel=0.005)
    assert deit.model.backbone.drop_path_rate == vim.model.backbone.drop_path_rate == 0.1
    for cfg in (vim, deit):
        cfg.model.pop('backbone')
    assert vim.to_dict() == deit.to_dict()
