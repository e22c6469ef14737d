"""How well hidden cubes can be guessed without a network: the errors that a pre-training loss has to beat."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import FileError
from mgmae_jax.flow.packed import given_flow
from mgmae_jax.masking.mask_input import MaskOptions, base_frame
from mgmae_jax.masking.motion import points_of
from mgmae_jax.masking.select import frame_scores, token_scores
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.masking.trajectory import end_points
from mgmae_jax.masking.volume import visibility_volume
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.ops.sampling import pixel_grid, resample_cells
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, normalise_pixels, patchify, take_tokens, unit_range, unpatchify
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.files import read_object, write_json
from mgmae_jax.runtime.mesh import put_batch, put_replicated, replicated
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.runtime.session import OpenRun
from mgmae_jax.train.clips import batch_spec, open_clips
from mgmae_jax.train.loop import Hook
from mgmae_jax.train.state import TrainState

if TYPE_CHECKING:
    from mgmae_jax.train.pretrain import Pretraining

GUESSES = "guesses.json"
_GUESSED_CLIPS = 256  # the least number of clips
BASELINES = {
    "mean_cube": "the mean cube of all clips",
    "clip_mean": "the mean of the clip's visible cubes",
    "nearest": "the nearest visible cube, copied",
    "along_flow": "the nearest visible cube along the flow, copied",
    "own_colour": "the hidden cube's own mean colour",
}
"""What replaces the network's prediction. The last reads hidden pixels: not a rival, it shows how much is texture. HOG
has none of it: flat cubes have gradients only where they meet, and that is not of their own colour."""

_TIME_WEIGHT = 1e-3  # along the flow, time only breaks ties


def guess_moments(
    pretraining: "Pretraining", params: Any | None, flow_params: Any, batch: Mapping[str, Array], keys: Key[Array, "B"]
) -> dict[str, Array]:
    """Errors over the hidden cubes of a batch, for `guess_errors`.

    Args:
      pretraining: masks, target and model.
      params: the model's parameters; None leaves the network out, and a strategy that learns is as it begins.
      flow_params: RAFT's parameters, or an empty dict.
      batch: as for `Pretraining.step`.
      keys: the keys of the masks, one per clip.

    Returns:
      Scalars: mean squared errors by the names of `BASELINES`, except "mean_cube", and "network"; and "values" [C],
      "square": the mean of the target values and of their squares. Without flow there is no "along_flow", and without
      `Target.of_own_pixels` no "own_colour".
    """
    masks, grid = pretraining.masks, pretraining.grid
    batch = masks.share_flow(flow_params, batch)
    own = masks.init(jax.random.key(0), grid.cube_values) if params is None else params

    def split_of(key: Array, clip: Array, given: Any) -> tuple[TokenSplit, Array | None]:
        flow = masks.flow_of(flow_params, key, clip, given)
        split = draw_mask(masks.ask_one(own, clip, flow, key))
        if flow is None:
            return split, None
        flow = flow[: grid.frames - 1]
        return split, nearest_along_flow(split, grid, flow, base_frame(key, grid.frames, masks.mask), masks.mask)

    split, along_flow = jax.vmap(split_of)(keys, batch["clip"], given_flow(batch))
    cubes = unit_range(patchify(batch["clip"], grid))
    values, known = (pretraining.target.values(batch["clip"], tokens, grid) for tokens in (split.target, split.visible))
    colour = cubes.reshape(*cubes.shape[:-1], -1, 3)
    colour = jnp.broadcast_to(colour.mean(axis=-2, keepdims=True), colour.shape).reshape(cubes.shape)
    guesses = {
        "clip_mean": known.mean(axis=1, keepdims=True),
        "nearest": take_tokens(known, jax.vmap(nearest_visible, in_axes=(0, None))(split, grid)),
    }
    if pretraining.target.of_own_pixels:
        guesses["own_colour"] = pretraining.target.values(unpatchify(colour, grid), split.target, grid)
    if along_flow is not None:
        guesses["along_flow"] = take_tokens(known, along_flow)
    if params is not None:
        guesses["network"] = apply_module(
            pretraining.model, params, normalise_pixels(take_tokens(cubes, split.visible)), split
        )
    measured = masks.measured(split)
    where = None if measured is None else measured[..., None]
    errors = {name: jnp.square(values - guess).mean(where=where) for name, guess in guesses.items()}
    errors |= {"values": values.mean(axis=(0, 1), where=where), "square": jnp.square(values).mean(where=where)}
    return errors if measured is None else errors | {"weight": measured.sum(dtype=jnp.float32)}


def guess_errors(moments: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Mean squared errors over batches of the same size, from the `guess_moments` of each."""
    parts = list(moments)
    weights = np.asarray([part.get("weight", 1.0) for part in parts], np.float64)
    mean = {name: np.average([part[name] for part in parts], axis=0, weights=weights) for name in parts[0]}
    mean["mean_cube"] = mean.pop("square") - np.square(mean.pop("values")).mean()
    order = [name for name in ("network", *BASELINES) if name in mean]
    return {name: float(mean[name]) for name in order}


def guess_table(errors: Mapping[str, float]) -> str:
    """The errors as text; with a network, also how far it is below or above each baseline."""
    network = errors.get("network")
    rows = []
    if network is not None:
        rows.append(("the network", f"{network:.4f}", ""))
    for name, text in BASELINES.items():
        if name in errors:
            below = ""
            if network is not None and name != "own_colour":
                share = 1 - network / errors[name]
                below = f"{abs(share):.0%} {'below' if share >= 0 else 'above'}"
            rows.append((text, f"{errors[name]:.4f}", below))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"  {text.ljust(widths[0])}  {error}  {below.rjust(widths[2])}".rstrip() for text, error, below in rows]
    return "\n".join(["mean squared error of the hidden cubes, predicted by", *lines])


def read_guesses(path: Path, *names: str, remedy: str = "; remove the file") -> dict[str, float]:
    """Reads the errors that `guess_hook` has written.

    Args:
      path: the file.
      names: those that have to be there.
      remedy: how an error ends.

    Raises:
      FileError: there is no such file, or it lacks one of `names`, or an error in it is not a number.
    """
    errors = read_object(path, remedy=remedy)
    for name, error in {**dict.fromkeys(names), **errors}.items():
        if not isinstance(error, int | float):
            raise FileError(path, f"cannot be read ({name} is {error!r}, not a number){remedy}")
    return errors


def nearest_visible(split: TokenSplit, grid: TokenGrid) -> Int[Array, "K"]:
    """For every target token, the place in `split.visible` of the nearest one, by distance in tokens."""
    places = jnp.asarray(np.indices((grid.tubelets, grid.rows, grid.columns)).reshape(3, -1).T, jnp.float32)
    return _closest(places[split.target], places[split.visible])


def nearest_along_flow(
    split: TokenSplit, grid: TokenGrid, flow: Float[Array, "P h w 2"], base: int | Int[Array, ""], mask: MaskOptions
) -> Int[Array, "K"]:
    """For every hidden token, the visible one that shows the same point, or the nearest to it.

    Tokens are carried to the base frame along the flow: those that show the same point coincide there, whatever their
    tubelet.

    Args:
      split: K hidden and V visible tokens of a clip.
      grid: how the clip is cut.
      flow: see `MaskInput.flow`.
      base: the base frame.
      mask: which way the flow goes (`mask.warp`).

    Returns:
      Places in `split.visible`.
    """
    # A map of positions, warped as the mask is, says where in the base frame each pixel comes from. Shifted away from
    # zero, which forward warping treats as empty.
    start = pixel_grid(grid.height, grid.width) + 1.0
    key = jax.random.key(0)  # nothing is random if holes are filled from the base map

    def carried(axis: int) -> Float[Array, "N"]:
        if mask.warp == "trajectory":
            points = resample_cells(flow, *points_of(grid, mask))
            volume = end_points(points, base, height=grid.height, width=grid.width)[0][..., axis]
        else:
            volume = visibility_volume(start[..., axis], flow, base, key, warp=mask.warp)
        return token_scores(frame_scores(volume, grid), grid).reshape(-1) / grid.patch

    tubelet = jnp.repeat(jnp.arange(grid.tubelets, dtype=jnp.float32), grid.per_tubelet) * _TIME_WEIGHT
    places = jnp.stack([carried(0), carried(1), tubelet], axis=-1)
    return _closest(places[split.target], places[split.visible])


def _closest(points: Float[Array, "K 3"], among: Float[Array, "V 3"]) -> Int[Array, "K"]:
    return jnp.square(points[:, None] - among[None]).sum(axis=-1).argmin(axis=1).astype(jnp.int32)


def guess_hook(
    config: ConfigDict,
    pretraining: "Pretraining",
    videos: VideoList,
    flow_params: Mapping[str, Any],
    opened: OpenRun,
) -> Hook:
    """At the end of the run, compares the network with what can be guessed without one; see `measure_guesses`."""

    def hook(done: int, state: TrainState) -> None:
        if done < opened.total:
            return
        errors = measure_guesses(
            config, pretraining, videos, state.params, flow_params, opened.key, opened.mesh, opened.total
        )
        if is_primary():
            write_json(opened.workdir / GUESSES, errors)
            print(f"\n{guess_table(errors)}", file=sys.stderr, flush=True)

    return hook


def guessed_at_once(config: ConfigDict, mesh: Mesh) -> int:
    """How many videos are guessed at once: a part of the batch that takes no more memory than a step, if there is one.

    Every device has whole videos of a part, so that any process can read its share of it.

    Args:
      config: the run's config.
      mesh: the devices.
    """
    videos: int = config.train.batch_size
    views: int = config.data.views
    most = min(videos * views // config.train.accumulate, max(_GUESSED_CLIPS, mesh.size * views))
    parts = [count for count in range(mesh.size, videos, mesh.size) if videos % count == 0]
    counts = [*parts, videos]
    return max((count for count in counts if count * views <= most), default=counts[0])


def measure_guesses(
    config: ConfigDict,
    pretraining: "Pretraining",
    videos: VideoList,
    params: Any | None,
    flow_params: Mapping[str, Any],
    key: jax.Array,
    mesh: Mesh,
    first: int,
) -> dict[str, float]:
    """The errors of `baselines.guess_errors` on the clips that step `first` and those after it would see.

    No crop or mask of them was trained on before step `first`. To be called by every process.

    Args:
      config: the run's config.
      pretraining: the trainer that the config describes.
      videos: the run's videos.
      params: the model's parameters, on the mesh; None leaves the network out.
      flow_params: RAFT's parameters, or an empty dict.
      key: the run's root key.
      mesh: the devices.
      first: the first step.
    """
    at_once = guessed_at_once(config, mesh)
    batches = -(-_GUESSED_CLIPS // (at_once * config.data.views))
    first = first * config.train.batch_size // at_once
    spec = dataclasses.replace(batch_spec(config, mesh), batch_size=at_once)

    def moments(params: Any | None, flow_params: Any, batch: Mapping[str, jax.Array], key: jax.Array) -> Any:
        return guess_moments(pretraining, params, flow_params, batch, per_example(key, 0, batch["clip"].shape[0]))

    jitted = jax.jit(on_mesh(moments, mesh), out_shardings=replicated(mesh))
    flow_params = put_replicated(flow_params, mesh)
    parts = []
    with open_clips(config, pretraining.masks, videos, first, lambda path, reason: None, spec) as reader:
        for step in range(first, first + batches):
            keys = put_replicated(stream(key, step, "mask"), mesh)
            parts.append(jax.device_get(jitted(params, flow_params, put_batch(next(reader), mesh), keys)))
    return guess_errors(parts)
