from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def optax_promotes() -> Iterator[None]:
    """Optax corrects Adam's bias by a float to the power of an integer, which the strict session would refuse."""
    with jax.numpy_dtype_promotion("standard"):
        yield
