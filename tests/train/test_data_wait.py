import os

import pytest
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.train.data_wait import SHARE, wait_advice


def test_it_says_what_can_still_be_raised(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    config = load_config("pretrain/common", ["--config.data.workers=4", "--config.flow.source=dis"])
    told = wait_advice(config, 30, 0.456)
    assert told.startswith("step 30: 46% of the time was spent waiting for data (data_wait_share).")
    for words in (
        "config.data.workers (4; 8 cores here)",
        "mgmae prepare",
        "config.data.cache",
        "by dis in",
        "`mgmae bench data`",
    ):
        assert words in told
    config.data.workers, config.data.cache, config.flow.source = 8, "there", "stored"
    told = wait_advice(config, 30, 0.456)
    for words in ("data.workers", "data.cache", "compute flow"):
        assert words not in told


def test_fine_tuning_is_advised_too_and_what_reads_no_videos_is_not():
    assert "mgmae prepare" in wait_advice(load_config("finetune/common", []), 1, SHARE)
    assert wait_advice(load_config("pretrain/common", []), 1, SHARE - 0.01) is None
    assert wait_advice(ConfigDict({"train": {"log_every": 1}}), 1, 0.9) is None
