"""How a clip is cut into tokens."""

import dataclasses

from mgmae_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TokenGrid:
    """The token grid of a clip: cubes of `tubelet` x `patch` x `patch` pixels, counted (tubelet, row, column)
    row-major.

    Args:
      frames: T, a multiple of `tubelet`.
      height: H in pixels, a multiple of `patch`.
      width: W in pixels, a multiple of `patch`.
      tubelet: frames of a token.
      patch: pixels to a side of a token.

    Raises:
      ConfigError: a length does not divide.
    """

    frames: int
    height: int
    width: int
    tubelet: int = 2
    patch: int = 16

    def __post_init__(self) -> None:
        if self.frames < self.tubelet or self.frames % self.tubelet:
            raise ConfigError("clip.frames", self.frames, f"a multiple of model.tubelet={self.tubelet}")
        for side in (self.height, self.width):
            if side < self.patch or side % self.patch:
                raise ConfigError("clip.size", side, f"a multiple of model.patch={self.patch}")

    @property
    def tubelets(self) -> int:
        """Tokens along time, t."""
        return self.frames // self.tubelet

    @property
    def rows(self) -> int:
        """Tokens down, h."""
        return self.height // self.patch

    @property
    def columns(self) -> int:
        """Tokens across, w."""
        return self.width // self.patch

    @property
    def per_tubelet(self) -> int:
        """Tokens of one tubelet, h * w."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """All tokens, N = t * h * w."""
        return self.tubelets * self.per_tubelet

    @property
    def cube_values(self) -> int:
        """Numbers in one RGB cube."""
        return self.tubelet * self.patch**2 * 3
