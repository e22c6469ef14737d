"""Short names for files, in tables and in the names of pictures."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from mgmae_jax.errors import MgmaeError


def short_names(files: Iterable[str], what: str, taken: Collection[str] = ()) -> dict[str, str]:
    """What files are called: their stems, or where two are the same, as much of their paths as tells them apart.

    The names also differ after `as_word`.

    Args:
      files: their paths.
      what: what the user calls one of them, for errors.
      taken: names that stand for something else.

    Raises:
      MgmaeError: two paths are of one file, or differ only in signs that are not in a name.
    """
    paths = {file: Path(file).absolute() for file in files}
    for depth in range(1, max((len(path.parts) for path in paths.values()), default=1) + 1):
        for ending in (False, True):  # of two files beside each other, it may be all that differs
            names = {
                file: "-".join([*path.parts[-depth:-1], path.name if ending else path.stem])
                for file, path in paths.items()
            }
            if len({as_word(name) for name in (*names.values(), *taken)}) == len(names) + len(taken):
                return names
    raise MgmaeError(f"{what}: {', '.join(paths)}: two of these cannot be told apart: give each file once.")


def as_word(name: str) -> str:
    """A name in letters, digits and underscores, joined by hyphens."""
    return re.sub(r"\W+", "-", name)
