"""Motion guided masking for video masked autoencoders, in JAX."""

import time

__version__ = "0.1.0"
STARTED = time.monotonic()
"""When this process began with the package, by that clock."""
