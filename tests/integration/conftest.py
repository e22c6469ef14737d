from pathlib import Path

import pytest

from tests.data.conftest import write_video
from tests.integration.runs import Launcher


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return Launcher(tmp_path_factory.mktemp("caches"))


@pytest.fixture(scope="session")
def twelve_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twelve")
    for i in range(12):
        write_video(root / f"{i:02}.mp4", 16 + i)
    return root
