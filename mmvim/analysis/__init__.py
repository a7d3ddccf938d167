"""Looking at models: how well, how fast, how large."""
