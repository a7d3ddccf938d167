"""Vaihingen, 6 classes, 0 is left out: tiles of 512, cut by mmseg's converter; else as Potsdam.

As mmseg's _base_/datasets/vaihingen.py.
"""

_base_ = './potsdam.py'
vaihingen = dict(type='ISPRSDataset', data_root='data/vaihingen')
train_dataloader = dict(dataset=vaihingen)
val_dataloader = dict(dataset=vaihingen)
test_dataloader = val_dataloader
