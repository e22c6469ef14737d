"""What model a file of another program holds: its sizes, read off the tensors, and its parameters."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mgmae_jax.errors import MgmaeError, WeightsError
from mgmae_jax.interop.hugging_face import SIZES, Described, check_sizes, describe, reads_first_token
from mgmae_jax.interop.match import Line, Match, match_tensors
from mgmae_jax.interop.model_folder import CONFIG_FILE
from mgmae_jax.interop.names import Parts
from mgmae_jax.interop.tensor_files import TensorFile, open_tensors
from mgmae_jax.models.variants import VARIANTS, Variant
from mgmae_jax.runtime.weights import Leaf

_CHUNK = 1 << 20
_SHOWN = 5  # state dicts named in an error


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the user says of a file that it does not say itself.

    Attributes:
      take: which state dict of a PyTorch file; None takes the first of `PREFERRED`.
      heads: attention heads of the encoder; None where the sizes are a published model's.
      decoder_heads: those of the decoder.
    """

    take: str | None = None
    heads: int | None = None
    decoder_heads: int | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A model from a file.

    Attributes:
      kind: "pretrain" for a masked autoencoder or its encoder alone, "finetune" for a classifier.
      variant: its sizes; those of a decoder that it does not have are a published model's.
      decoder_depth: the decoder's blocks; None without a decoder.
      tubelet: frames of a token.
      patch: side of a token, in pixels.
      classes: names of a classifier's classes, numbers as text if they have no names; None without a head.
      frames: of the clips that it was trained on.
      size: their side in pixels.
      clip_from: what says so; None if nothing does, and the published models' are assumed.
      leaves: its parameters by own name.
      lines: what became of every tensor.
      file: the file.
    """

    kind: Literal["pretrain", "finetune"]
    variant: Variant
    decoder_depth: int | None
    tubelet: int
    patch: int
    classes: tuple[str, ...] | None
    frames: int
    size: int
    clip_from: str | None
    leaves: Mapping[str, Leaf]
    lines: tuple[Line, ...]
    file: TensorFile


def read_model(path: Path, asked: Asked = Asked()) -> Model:
    """Reads a checkpoint of MGMAE, VideoMAE or VideoMAE V2, or a Hugging Face folder; only its names and shapes.

    Raises:
      MgmaeError: there is no such file, it is damaged or another model, or its heads have to be asked for.
    """
    file = open_tensors(path, asked.take)
    match = _match(file, asked, path)
    beside = (path if path.is_dir() else path.parent) / CONFIG_FILE
    described = describe(beside) if match.layout == "hugging_face" and beside.is_file() else None
    if match.layout == "hugging_face" and described is None and path.is_dir():
        raise WeightsError(path, f"has no {CONFIG_FILE}, which says how many heads its model has")
    sizes = _sizes(match, path)
    parts = match.parts
    variant = dataclasses.replace(sizes, **_heads(sizes, parts.decoder_depth is not None, described, asked, path))
    kernel = match.sources["encoder.patch_embed.proj.weight"].shape
    frames, size, clip_from = _clip(file, described)
    if described is not None:
        reads_first_token(described, parts.classifier, beside)
        check_sizes(described, _stated(variant, parts, kernel), beside)
        variant = dataclasses.replace(variant, eps=described.eps, last_eps=described.last_eps)
    classes = None
    if parts.classifier and parts.head:
        count = match.sources["head.weight"].shape[0]
        names = described.classes if described is not None else None
        if names is not None and len(names) != count:
            raise WeightsError(beside, f"names {len(names)} classes, and the head has {count}")
        classes = names or tuple(str(label) for label in range(count))
    return Model(
        "finetune" if parts.classifier else "pretrain",
        variant,
        parts.decoder_depth,
        kernel[2],
        kernel[3],
        classes,
        frames,
        size,
        clip_from,
        match.leaves(),
        match.lines,
        file,
    )


def _match(file: TensorFile, asked: Asked, path: Path) -> Match:
    try:
        return match_tensors(file.tensors, str(path))
    except WeightsError as error:
        if asked.take is not None or not file.others:
            raise
        others = " or ".join(file.others[:_SHOWN])
        raise WeightsError(path, f"{error.reason}; this is its {file.taken!r}: --take gives {others}") from error


def _stated(variant: Variant, parts: Parts, kernel: tuple[int, ...]) -> dict[str, int]:
    """The sizes that a config.json states, as the tensors have them."""
    sizes = [variant.width, parts.depth, variant.mlp, kernel[3], kernel[2]]
    if parts.decoder_depth is not None:
        sizes += [variant.decoder_width, parts.decoder_depth]
    return dict(zip(SIZES, sizes, strict=False))


def _sizes(match: Match, path: Path) -> Variant:
    """The sizes that the tensors have; heads are those of the published model of these sizes, or 0.

    Raises:
      WeightsError: shapes do not fit each other.
    """
    shapes = {name: source.shape for name, source in match.sources.items()}
    kernel = shapes["encoder.patch_embed.proj.weight"]
    if len(kernel) != 5 or kernel[1] != 3 or kernel[3] != kernel[4]:
        raise WeightsError(path, f"embeds patches by a kernel of {list(kernel)}: give [width, 3, frames, side, side]")
    if not match.parts.depth:
        raise WeightsError(path, "has no blocks")
    width, depth, mlp = kernel[0], match.parts.depth, shapes["encoder.blocks.0.mlp.fc1.weight"][0]
    has_decoder = match.parts.decoder_depth is not None
    decoder = shapes["mask_token"][-1] if has_decoder else None
    like = [known for known in VARIANTS.values() if (known.width, known.depth, known.mlp) == (width, depth, mlp)]
    exact = [known for known in like if decoder in (None, known.decoder_width)]
    if exact:
        found = exact[0]
    else:
        heads = like[0].heads if like else 0
        found = Variant(width, depth, heads, mlp, decoder or 1, 0 if has_decoder else 1)
    _check_shapes(match, found, path)
    return found


def _check_shapes(match: Match, variant: Variant, path: Path) -> None:
    """Checks that every tensor has the shape that the sizes ask for.

    Raises:
      WeightsError: some have not; the message names the first.
    """
    cube = match.sources["encoder.patch_embed.proj.weight"].shape
    values = int(cube[1] * cube[2] * cube[3] * cube[4])
    for name, source in match.sources.items():
        side = name.startswith("decoder.")
        width = variant.decoder_width if side else variant.width
        mlp = 4 * width if side else variant.mlp
        layer, kind = name.rsplit(".", 2)[-2:] if "." in name else (name, "")
        want: dict[tuple[str, str], tuple[int, ...]] = {
            ("qkv", "weight"): (3 * width, width),
            ("fc1", "weight"): (mlp, width),
            ("fc1", "bias"): (mlp,),
            ("fc2", "weight"): (width, mlp),
            ("encoder_to_decoder", "weight"): (variant.decoder_width, variant.width),
            ("mask_token", ""): (1, 1, variant.decoder_width),
        }
        shape = want.get((layer, kind), (width, width) if layer == "proj" and kind == "weight" else (width,))
        if "patch_embed" in name:
            shape = cube if kind == "weight" else (width,)
        elif layer == "head":
            count = values if side else match.sources["head.weight"].shape[0]
            shape = (count, width) if kind == "weight" else (count,)
        if source.shape != shape:
            told = (
                f"tensor {source.names[0]} has the shape {list(source.shape)}, where the others ask for {list(shape)}"
            )
            raise WeightsError(path, told)


def _heads(sizes: Variant, has_decoder: bool, described: Described | None, asked: Asked, path: Path) -> dict[str, int]:
    """The heads of encoder and decoder: as asked, as config.json says, or as the published model of these sizes has.

    Raises:
      WeightsError: nothing says how many, or they do not divide the width.
    """
    found = {}
    sides = (("heads", "width", "--heads"), ("decoder_heads", "decoder_width", "--decoder-heads"))
    for field, width, flag in sides[: 1 + has_decoder]:
        heads = getattr(asked, field) or (getattr(described, field) if described else 0) or getattr(sizes, field)
        lines = f"{getattr(sizes, width)} ({width.replace('_', ' ')})"
        if not heads:
            raise WeightsError(path, f"does not say how many attention heads its {lines} has: give {flag}")
        if heads < 1 or getattr(sizes, width) % heads:
            raise WeightsError(path, f"cannot have {heads} attention heads: {flag} divides {lines}")
        found[field] = heads
    return found


def _clip(file: TensorFile, described: Described | None) -> tuple[int, int, str | None]:
    """Frames and side of the clips that a model was trained on, and what says so."""
    if described is not None:
        return described.frames, described.size, CONFIG_FILE
    sides = file.args.get("num_frames"), file.args.get("input_size")
    if all(type(side) is int and 0 < side < 1 << 16 for side in sides):
        return *sides, "the options in the file"  # type: ignore[return-value]
    return 16, 224, None


def checksum(file: TensorFile) -> str:
    """The SHA-256 of the files that a model was read from, one after another."""
    digest = hashlib.sha256()
    for path in file.files:
        try:
            with path.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise MgmaeError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def told(model: Model) -> dict[str, Any]:
    """What a person wants to know of a model: where it was taken from, and how many tensors were used."""
    counts = {status: sum(line.status == status for line in model.lines) for status in ("used", "reshaped", "unused")}
    return {"taken": model.file.taken, "others": list(model.file.others), **counts}
