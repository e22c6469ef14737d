import subprocess
import sys

import pytest

from mgmae_jax.runtime.host_memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from mgmae_jax.runtime.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(2**23)  # 64 MiB, freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_used_again():
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")
    assert page_faults("keep") < 0.1 * page_faults("give back")
