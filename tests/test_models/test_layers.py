"""Names that moved."""

import subprocess
import sys

import pytest

from mmvim.models import layers
from mmvim.models.backbones.vim_mixer import BidirectionalMixer
from mmvim.models.backbones.vmamba_mixer import SS2D


@pytest.mark.parametrize(('name', 'found'), [('SS2D', SS2D), ('BidirectionalMixer', BidirectionalMixer)])
def test_mixers_under_their_old_names(name: str, found: type) -> None:
    with pytest.warns(FutureWarning, match=rf'layers\.{name} is now mmvim\.models\.backbones\..*_mixer\.{name}'):
        assert getattr(layers, name) is found


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match='has no attribute'):
        _ = layers.Mamba


def test_old_names_before_anything_else() -> None:
    """The first import of a process takes no circle, and says one line."""
    code = 'from mmvim.models.layers import SS2D; SS2D(8)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stderr.count('FutureWarning') == 1
