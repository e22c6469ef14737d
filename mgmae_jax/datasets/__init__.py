"""Data sets by name, and the videos that a config names."""
