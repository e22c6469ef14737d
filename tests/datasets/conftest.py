"""Small data sets in their true layouts, made once."""

from pathlib import Path

import pytest

from tests.datasets.fakes import FAKES


@pytest.fixture(scope="session")
def fakes(tmp_path_factory) -> dict[str, Path]:
    """The folder of each data set, by its name, with 20 videos each."""
    root = tmp_path_factory.mktemp("fakes")
    return {name: make(root / name, 20) for name, make in FAKES.items()}
