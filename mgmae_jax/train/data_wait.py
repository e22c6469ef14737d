"""What to raise when a run waits for its data."""

from ml_collections import ConfigDict

from mgmae_jax.data.cores import usable_cores

SHARE = 0.2
"""The share of the time, between two lines of metrics, from which a run says so."""


def wait_advice(config: ConfigDict, step: int, share: float) -> str | None:
    """What a run says when it has waited for data; None if it has not, or reads no videos.

    Args:
      config: the resolved config.
      step: the number of the step that was reported.
      share: of the time since the line of metrics before, waited for data.
    """
    data = config.get("data", {})
    if share < SHARE or "workers" not in data:
        return None
    cores = usable_cores()
    advice = [f"raise config.data.workers ({data.workers}; {cores} cores here)"] if data.workers < cores else []
    advice += ["write the videos to records at a smaller size: `mgmae prepare --short-side 256`"]
    if "views" in data:
        advice += [f"take more crops of each clip that is decoded: config.data.views ({data.views})"]
    if "cache" in data and not data.cache:
        advice += ["keep the frames of a small data set: config.data.cache"]
    if config.get("flow", {}).get("source") in ("tvl1", "dis"):
        advice += [f"compute flow once instead of by {config.flow.source} in the workers: `mgmae flow`"]
    return (
        f"step {step}: {share:.0%} of the time was spent waiting for data (data_wait_share). "
        f"`mgmae bench data` measures how fast it is read. To read it faster, {'; or '.join(advice)}."
    )
