"""What the published counts of a detector's operations cover."""

from torch import Tensor, nn


class DetectorPasses(nn.Module):
    """Backbone, neck and RPN, 1000 boxes through the box head and 100 through the mask head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> None:
        maps = self.model.neck(self.model.backbone(image))
        self.model.rpn_head(maps)
        self.model.roi_head.bbox_head(image.new_empty(1000, 256, 7, 7))
        self.model.roi_head.mask_head(image.new_empty(100, 256, 14, 14))
