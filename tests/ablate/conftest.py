import os
from pathlib import Path

import pytest


class Fake:
    """What the fake program is told, and what it did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "wait").mkdir(parents=True)

    @property
    def ran(self) -> list[str]:
        """Every command that was started, as "pretrain tube-1 12", in order."""
        path = self.folder / "ran"
        lines = path.read_text().splitlines() if path.exists() else []
        return [self._short(line) for line in lines]

    @staticmethod
    def _short(line: str) -> str:
        name, *words = line.split()
        row, seed = next(word for word in words if "/cells/" in word).partition("/cells/")[2].split("/")[:2]
        return f"{name} {row} {seed.removeprefix('seed')}"

    def fail(self, *words: str) -> None:
        (self.folder / "fail").write_text(" ".join(words))

    def stubborn(self) -> None:
        (self.folder / "stubborn").touch()

    def hold(self, name: str) -> None:
        """Makes commands of this name report and wait."""
        for end in ("begun", "go"):
            os.mkfifo(self.folder / "wait" / f"{name}.{end}")

    def begun(self, name: str) -> None:
        """Waits until such a command has begun."""
        assert (self.folder / "wait" / f"{name}.begun").read_text() == "begun\n"

    def release(self, name: str) -> None:
        """The next commands of this name do not wait; one that does is still held."""
        (self.folder / "wait" / f"{name}.begun").unlink()

    def let_go(self, name: str) -> None:
        """Lets the one that waits continue."""
        (self.folder / "wait" / f"{name}.go").write_text("go\n")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("FAKE", str(tmp_path / "fake"))
    return Fake(tmp_path / "fake")
