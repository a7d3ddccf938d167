"""Every block of docs/elsewhere.md runs, with small models of the same families: each trains a step."""

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

PAGE = (Path(__file__).parents[2] / 'docs' / 'elsewhere.md').read_text()
SECTIONS = re.findall(r'^## (.+?)\n(.*?)(?=^## |\Z)', PAGE, re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r'(<!-- only read: .+? -->\n)?```python\n(.*?)```', re.DOTALL)
BLOCKS = {
    title: match[2]
    for title, text in [('timm', PAGE.partition('\n## ')[0]), *SECTIONS]
    for match in BLOCK.finditer(text)
    if match[1] is None
}


def test_blocks_are_those_of_the_page() -> None:
    assert list(BLOCKS) == [
        'timm', 'segmentation_models.pytorch', 'transformers: UPerNet', 'transformers: Mask2Former',
        'transformers: DETR', 'torchvision: Mask R-CNN',
    ]  # fmt: skip
    assert len(BLOCK.findall(PAGE)) == len(BLOCKS) + 3


@pytest.mark.parametrize('title', list(BLOCKS))
def test_a_step(timm: ModuleType, with_operators: None, title: str, capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    code = re.sub(r'\b(vmamba|vim)_tiny\b', r'small_\1', BLOCKS[title])
    space = {'__name__': 'page'}
    exec(compile(code, title, 'exec'), space)
    gradients = {name: parameter.grad for name, parameter in space['model'].named_parameters()}
    ours = [name for name in gradients if 'backbone.' in name and '.weight' in name]
    assert ours and all(gradients[name] is not None and gradients[name].isfinite().all() for name in ours)
    assert any(gradients[name].abs().sum() > 0 for name in ours)
