"""Weights of other programs, read without running code from them."""
