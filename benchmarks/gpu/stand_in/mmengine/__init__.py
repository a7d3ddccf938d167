"""As much of mmengine as importing and running mmvim's backbones takes, for machines that have torch alone.

Only benchmarks/gpu uses it. Nothing is registered: models are built by calling their classes.
"""
