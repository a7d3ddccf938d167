"""VMamba gives the numbers of the official code: weights drawn by name, outputs and gradients stored.

With the plain weights a wrong order of walks moves a map by as little as 6e-4; the two mixers with rescaled weights, by
3.5 percent and more.
"""

import pytest
import torch
import torch.nn.functional as F
from fill import filled_state_dict, image, normal
from golden import Golden
from official_vmamba import classifier_shapes, dense_shapes

from mmvim.checkpoints.layouts.vmamba import from_official, to_official
from mmvim.models import VMamba
from mmvim.models.backbones.vmamba_mixer import SS2D

RELATIVE, LARGEST, GRADIENT = 1e-5, 1e-4, 3e-5
UNIT, UNIT_GRADIENT = 1e-5, 2e-5


def golden_image(golden: Golden) -> torch.Tensor:
    return image(**golden.info['input'])


@pytest.mark.parametrize(
    'name',
    [
        'vmamba_tiny_s1l8_dense_160x224',
        'vmamba_tiny_s1l8_dense_150x210',
        'vmamba_v0_tiny_dense_64x96',
        'vmamba_v0_tiny_dense_70x107',
    ],
)
def test_dense(name):
    golden = Golden(name)
    arch = golden.info['variant']
    vmamba = VMamba(arch).eval()
    vmamba.load_state_dict(from_official(filled_state_dict(dense_shapes(arch))))
    for key in golden.arrays:
        if key.startswith('inter.'):
            module = vmamba.get_submodule(key.removeprefix('inter.'))
            module.register_forward_hook(
                lambda module, args, out, key=key: golden.assert_near(key, out.permute(0, 3, 1, 2), RELATIVE, LARGEST)
            )
    x = golden_image(golden).requires_grad_('grad_input' in golden.arrays)
    outs = vmamba(x)
    for i, out in enumerate(outs):
        golden.assert_near(f'feat{i}', out, RELATIVE, LARGEST)
    if 'grad_input' in golden.arrays:
        outs[3].square().sum().backward()
        golden.assert_near('grad_input', x.grad, GRADIENT)


def test_classification():
    """The classifier's norm is the last output's, in front of the average over the map."""
    golden = Golden('vmamba_tiny_s1l8_cls_224')
    state = from_official(filled_state_dict(classifier_shapes('tiny_s1l8')))
    state['outnorm3.weight'], state['outnorm3.bias'] = (state.pop(f'classifier.norm.{x}') for x in ('weight', 'bias'))
    head = state.pop('classifier.head.weight'), state.pop('classifier.head.bias')
    vmamba = VMamba('tiny_s1l8', out_indices=3).eval()
    vmamba.load_state_dict(state)
    with torch.no_grad():
        (out,) = vmamba(golden_image(golden))
        golden.assert_near('logits', F.linear(out.mean((2, 3)), *head), RELATIVE, LARGEST)


@pytest.mark.parametrize('name', ['vmamba_ss2d_v05_noz', 'vmamba_ss2d_v0'])
def test_mixer(name):
    golden = Golden(name)
    about = golden.info
    state = filled_state_dict(about['state_dict_shapes'])
    for key, change in about['rescale'].items():
        state[key] = state[key] * change['mul'] + change['add']
    options = {'gate': True, 'conv_bias': True} if name.endswith('v0') else {}
    arguments = about['module_args']
    mixer = SS2D(arguments['d_model'], arguments['ssm_ratio'], arguments['d_state'], **options)
    # The layout is converted by the names inside a block.
    block = 'layers.0.blocks.0.op.'
    ours = from_official({block + key: value for key, value in state.items()})
    mixer.load_state_dict({key.removeprefix(block): value for key, value in ours.items()})

    first = about['input']['layout'] == 'NCHW'
    x = normal(about['input']['seed'], about['input']['shape']).requires_grad_()
    out = mixer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if first else mixer(x)
    golden.assert_near('out', out, UNIT)
    out.square().sum().backward()
    golden.assert_near('grad_input', x.grad, UNIT_GRADIENT)
    gradients = to_official({block + key: parameter.grad for key, parameter in mixer.named_parameters()})
    for key, value in gradients.items():
        golden.assert_near('grad.' + key.removeprefix(block), value, UNIT_GRADIENT)
    assert len(gradients) == sum(key.startswith('grad.') for key in golden.arrays)
