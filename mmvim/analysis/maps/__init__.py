"""Maps of what goes on in a model: activations of a stage, Grad-CAM, and what a scan carries from token to token.

From an image and a model to arrays::

    view = see(model, pipeline, image)                                # of an inferencer: .model and .pipeline
    values = activation(model.backbone, view.inputs, stage=2)         # (h, w)
    values, label, said = grad_cam(model, view, 2, view.place(at))    # (h, w), and what was explained
    found = scan_map(model.backbone, view.inputs, (0.5, 0.25), 2)     # found.walks, (K, h, w)
    view.fitted(values)                                               # over view.picture, pixel by pixel
"""

from .cam import activation, grad_cam
from .scan import Scan, ScanMap, record_scans, scan_map
from .view import View, see

__all__ = ['Scan', 'ScanMap', 'View', 'activation', 'grad_cam', 'record_scans', 'scan_map', 'see']
