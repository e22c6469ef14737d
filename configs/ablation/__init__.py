"""Grids for `mgmae ablate`: the paper's tables in miniature."""
