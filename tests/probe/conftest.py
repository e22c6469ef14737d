from tests.train.conftest import optax_promotes

__all__ = ["optax_promotes"]  # for every test here: probes are trained by optax
