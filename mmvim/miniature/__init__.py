"""Data sets of drawn scenes, small enough for two cores, in the formats of the real ones."""
