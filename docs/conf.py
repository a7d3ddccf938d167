"""Sphinx reads docs/ as it lies: `make docs` writes docs/_build/html and takes every warning for an error."""

from pathlib import Path
from runpy import run_path

project = 'mmvim'
author = copyright = 'the mmvim authors'
release = run_path(str(Path(__file__).parents[1] / 'mmvim/version.py'))['__version__']

extensions = ['myst_parser']
exclude_patterns = ['_build']
myst_heading_anchors = 3  # the anchors that code hosts give to headings, so that links work in both places
html_theme = 'alabaster'
html_theme_options = {'description': 'Vision state-space backbones for OpenMMLab', 'page_width': '1100px'}
