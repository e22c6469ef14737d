"""`mgmae pretrain` that runs out of memory in process 1, as XLA reports it, once two steps are done."""

import sys

import jax

from mgmae_jax import cli
from mgmae_jax.train import loop

put_batch = loop.put_batch
steps = 0


def failing_put_batch(*arguments: object) -> object:
    global steps
    steps += 1
    if steps == 3 and jax.process_index() == 1:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.\nmore\nlines")
    return put_batch(*arguments)


if __name__ == "__main__":
    loop.put_batch = failing_put_batch
    sys.exit(cli.main(sys.argv[1:]))
