"""A family is a backbone and two records: one from outside of the package is known everywhere that ours are."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOY = """
import torch
from torch import nn

from mmvim import catalogue
from mmvim.catalogue import Family, Model, OfficialFile, Published
from mmvim.checkpoints import layouts
from mmvim.models.backbones.base import Backbone
from mmvim.registry import register_backbone


@register_backbone
class Toy(Backbone):
    arch_zoo = {'tiny': {'embed_dims': 8}, 'large': {'embed_dims': 16}}
    required, optional = {'embed_dims'}, set()

    def __init__(self, arch='tiny', init_cfg=None):
        super().__init__(init_cfg)
        self.stem = nn.Conv2d(3, self._resolve_arch(arch)['embed_dims'], 32, 32)

    def _frozen(self):
        return []

    def adapt_weights(self, found):
        found['stem.bias'] = found['stem.bias'].flatten()
        return ['bias flattened']

    def forward(self, image):
        return (self.stem(image),)


def renamed(state, old, new):
    return {key.replace(old, new): tensor for key, tensor in state.items()}


def describe(state, variants):
    return f"Toy-{layouts.variant_of(variants, embed_dims=state['stem.weight'].shape[0])}"


layouts.add(
    layouts.Layout(
        name='Toy',
        fits=lambda state: any(key.endswith(('toy_conv.weight', 'stem.weight')) for key in state),
        from_official=lambda state: renamed(state, 'toy_conv.', 'stem.'),
        to_official=lambda state: renamed(state, 'stem.', 'toy_conv.'),
        left_out={r'fc\\.': 'classifier'},
        classifier=(('fc.', 'head.fc.'),),
        describe=describe,
    )
)
FILE = OfficialFile('toy.pth', 'example.org/toy', 'https://example.org/toy/toy.pth')
MODEL = Model(
    name='toy_imagenet', title='Toy-T', variant='toy_t', family='Toy', task='imagenet', method='classifier',
    config='configs/toy/toy_imagenet.py', parameters=1, long_name='toy_in1k', weights=FILE,
    published=(Published('top-1', 12.5, 'its README'),),
)
catalogue.add(
    Family(
        name='Toy', readme='configs/toy/README.md', models=(MODEL,), files=(FILE,), architecture=('Convolution',),
        paper=('Toys', 'https://example.org/toys'), license='MIT License', backbone='Toy', titles={'tiny': 'Toy-T'},
        colours={'Toy': '#123456'},
    )
)
"""


def run(code: str, folder: Path) -> str:
    (folder / 'toy.py').write_text(TOY)
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [folder, ROOT])), 'OMP_NUM_THREADS': '1'}
    result = subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_checkpoints_of_a_family_from_outside(tmp_path: Path) -> None:
    code = """
import torch, toy
from mmvim.checkpoints import to_official
from mmvim.checkpoints.classifier import from_classifier, to_classifier
from mmvim.models import Vim
from mmvim.registry import MODELS

state = {'toy_conv.weight': torch.ones(8, 3, 32, 32), 'toy_conv.bias': torch.ones(8, 1), 'fc.weight': torch.zeros(2, 8)}
torch.save({'model': state}, 'toy.pth')

def load(backbone):
    backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': 'toy.pth'}
    try:
        backbone.init_weights()
    except RuntimeError as error:
        print(error)

backbone = MODELS.build({'type': 'mmvim.Toy'})
load(backbone)
print(backbone.stem.weight.eq(1).all().item(), list(to_official(backbone.state_dict())))
load(MODELS.build({'type': 'mmvim.Toy', 'arch': 'large'}))
load(Vim({'embed_dims': 16, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}))
whole = from_classifier({'stem.weight': 0, 'fc.weight': 0})
print(list(whole), list(to_classifier(whole)))
try:
    to_official({'layer1.0.conv1.weight': torch.zeros(1)})
except ValueError as error:
    print(error)
"""
    lines = [line for line in run(code, tmp_path).splitlines() if 'tensors matched' not in line]
    assert lines[0] == "True ['toy_conv.weight', 'toy_conv.bias']"
    assert lines[1].startswith('toy.pth holds Toy-tiny, the model is Toy-large; 2 of other shape: ')
    assert lines[2] == 'toy.pth holds Toy, the model is Vim'
    assert lines[3] == "['backbone.stem.weight', 'head.fc.weight'] ['stem.weight', 'fc.weight']"
    known = 'LocalVim, LocalVMamba, Vim, EfficientVMamba, VMamba, MambaOut, MambaVision, PlainMamba, DeiT, Toy'
    assert lines[4].endswith(f'known are {known}')


def test_lists_have_a_family_from_outside(tmp_path: Path) -> None:
    code = """
import toy
from mmvim.analysis.cost import colour_of
from mmvim.analysis.models import build, title
from mmvim.catalogue import OFFICIAL_WEIGHTS
from mmvim.commands.zoo import main
from mmvim.zoo.metafile import metafile

print(OFFICIAL_WEIGHTS['toy.pth'], title('toy_tiny'), type(build('toy_large', 64)).__name__, colour_of('Toy-T'))
print(metafile([toy.MODEL], 'toy'))
main(['list', '--models', 'toy*'])
"""
    said = run(code, tmp_path)
    assert said.startswith('example.org/toy Toy-T Toy #123456\n')
    for part in ('- Name: Toy\n    License: MIT License\n', 'URL: https://example.org/toys', 'Alias: toy_imagenet'):
        assert part in said
    assert 'top-1 12.5' in said


def test_names_are_given_once(tmp_path: Path) -> None:
    code = """
import toy
from mmvim import catalogue
from mmvim.checkpoints import layouts
for add, record in ((catalogue.add, catalogue.FAMILIES['Toy']), (layouts.add, layouts.LAYOUTS[-1])):
    try:
        add(record)
    except ValueError as error:
        print(error)
"""
    assert run(code, tmp_path).splitlines() == [
        'there is toy_imagenet in the catalogue already',
        "there is a layout 'Toy' already",
    ]
