"""What a run needs and whether it is there: each question answered by findings, for the tools and for the doctor.

Nothing is imported here, and nothing but Python at the head of the modules that the doctor asks: it works where
OpenMMLab or torch do not.
"""
