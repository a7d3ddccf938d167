"""A name that is imported together with the backbones and not used by them."""

BaseDataElement = object
