"""Weights of other programs, read without running any code in them."""
