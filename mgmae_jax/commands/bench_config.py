"""The config that a bench measures with."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.config_checks import check_kind

PAPER = "pretrain/ssv2_vit_b"
_BATCH_SIZE = "--config.train.batch_size"
FLOAT32 = ("--config.model.dtype=float32", "--config.flow.dtype=float32")


def load_bench_config(name: str | None, overrides: Sequence[str], batch_size: int, platform: str) -> ConfigDict:
    """The config to measure with; by default the paper's, in float32 on a CPU.

    Args:
      name: the value of `--config`, if it is given.
      overrides: "--config.FIELD=VALUE".
      batch_size: that of `--batch-size`, which becomes config.train.batch_size.
      platform: what JAX calls the devices.

    Raises:
      MgmaeError: there is no such config or field, a value has the wrong type, or the batch size is given as a field.
    """
    if given := [override for override in overrides if override.partition("=")[0] == _BATCH_SIZE]:
        raise MgmaeError(f"{given[0]}: give the clips of a step by --batch-size")
    if name is None and platform == "cpu":
        overrides = [*FLOAT32, *overrides]
    config = load_config(name or PAPER, overrides)
    check_kind(config, "pretrain")
    config.train.batch_size = batch_size
    return config
