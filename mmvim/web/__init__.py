"""A page in the browser on this machine: images in, what a model sees out; ``make web``."""
