"""Grids of experiments: the paper's tables in miniature, run cell by cell and put together."""
