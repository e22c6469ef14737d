"""Motion guided masking for video masked autoencoders, in JAX."""

__version__ = "0.1.0"
