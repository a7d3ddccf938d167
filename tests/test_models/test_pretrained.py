"""mmseg's `model.pretrained`, which comes to the backbone as an argument."""

from copy import deepcopy

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from mmvim.models import MambaOut, VMamba

TINY = {'embed_dims': (4, 8, 8, 8), 'depths': (1, 1, 1, 1)}


def test_the_sentence_says_what_to_write() -> None:
    head = {'type': 'FCNHead', 'in_channels': 8, 'in_index': 3, 'channels': 4, 'num_classes': 2}
    model = ConfigDict(
        type='EncoderDecoder',
        pretrained='open-mmlab://resnet50_v1c',
        backbone={'type': 'mmvim.MambaOut', 'arch': TINY},
        decode_head=head,
    )
    said = r"MambaOut takes no pretrained='open-mmlab://resnet50_v1c'.*set pretrained=None in the model.*init_cfg=dict"
    with DefaultScope.overwrite_default_scope('mmseg'):
        with pytest.raises(TypeError, match=said):
            MODELS.build(deepcopy(model))
        model.pretrained = None
        assert isinstance(MODELS.build(model).backbone, MambaOut)
    with pytest.raises(TypeError, match='VMamba takes no pretrained=None'):
        VMamba('tiny', pretrained=None)


def test_a_subclass_may_have_one() -> None:
    class Own(MambaOut):
        def __init__(self, pretrained: str | None = None) -> None:
            super().__init__(TINY)
            self.pretrained = pretrained

    assert deepcopy(Own(pretrained='a')).pretrained == 'a'
