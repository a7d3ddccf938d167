"""Names that are imported together with the backbones and not used by them."""

CheckpointLoader = checkpoint = None
