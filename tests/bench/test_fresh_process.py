import json
import os

import pytest

from mgmae_jax.bench.fresh_process import in_fresh_process
from mgmae_jax.errors import MgmaeError


def test_it_is_another_process_each_time_and_errors_come_back():
    processes = [os.getpid(), in_fresh_process(os.getpid)]
    with pytest.raises(json.JSONDecodeError):
        in_fresh_process(json.loads, "{")
    assert len(set(processes)) == 2


def test_a_killed_process_is_an_error_that_names_the_flag():
    with pytest.raises(MgmaeError, match="--batch-size"):
        in_fresh_process(os._exit, 9)
