"""From the tensors of a file to the canonical ones of `names`: every tensor is used, or a reason says why not."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.names import (
    QKV,
    Parts,
    canonical_names,
    hugging_face_names,
    official_name,
    own_name,
    own_shape,
    to_own,
)
from mgmae_jax.interop.tensor_files import forget_pages
from mgmae_jax.models.layers import position_table
from mgmae_jax.runtime.weights import Leaf

Layout = Literal["official", "hugging_face"]
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|backbone)\.)+")
# A masked autoencoder's own "pos_embed" is the decoder's.
_HALVES = ("encoder.", "decoder.", "encoder_to_decoder.", "mask_token", "pos_embed", "fc_norm.", "head.")
_KEY_BIAS = "is the same for all keys, so attention does not depend on it"
_TABLE = "is the fixed table of positions, which is computed"
_FIRST_TOKEN = "its head sees the first token alone; this project's, the mean of all"
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Line:
    """What became of one tensor.

    Attributes:
      status: "reshaped" is used with its values in another order or shape.
      name: what the file calls it; of a missing one, what the file would call it.
      note: what it is here, or why it is not used.
    """

    status: Literal["used", "reshaped", "unused", "missing"]
    name: str
    note: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A canonical tensor in a file: one tensor, or several that follow one another along the first axis."""

    names: tuple[str, ...]
    tensors: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        first = self.tensors[0].shape
        return first if len(self.tensors) == 1 else (sum(len(tensor) for tensor in self.tensors), *first[1:])

    def read(self) -> Shaped[np.ndarray, "..."]:
        """The values, in memory of their own; the pages of the mapped file that they came from are let go."""
        mixed = len({tensor.dtype for tensor in self.tensors}) > 1  # bfloat16 and float16 have no common type
        values = np.concatenate(self.tensors, dtype=np.float32 if mixed else None)
        for tensor in self.tensors:
            forget_pages(tensor)
        return values


@dataclasses.dataclass(frozen=True)
class Match:
    """The canonical tensors of a file.

    Attributes:
      layout: whose names the file has.
      parts: which parts its model has.
      sources: by canonical name; a bias that the file's model does not have is absent.
      lines: what became of every tensor.
    """

    layout: Layout
    parts: Parts
    sources: Mapping[str, Source]
    lines: tuple[Line, ...]

    def leaves(self) -> dict[str, Leaf]:
        """This project's parameters, by own name; a bias that the file's model does not have is 0."""
        width = self.sources["encoder.patch_embed.proj.weight"].shape[0]
        decoder = self.sources.get("mask_token")
        leaves = {}
        for name in canonical_names(dataclasses.replace(self.parts, biases=True)):
            if name in self.sources:
                source = self.sources[name]
                leaves[own_name(name)] = Leaf(own_shape(name, source.shape), _reader(name, source))
            else:
                shape = (decoder.shape[-1] if name.startswith("decoder.") and decoder else width,)
                leaves[own_name(name)] = Leaf(shape, lambda shape=shape: np.zeros(shape, np.float32))  # type: ignore[misc]
        return leaves


def _reader(name: str, source: Source) -> Callable[[], np.ndarray]:
    return lambda: to_own(name, source.read())


def match_tensors(tensors: Mapping[str, np.ndarray], path: str) -> Match:
    """Finds the canonical tensors of a masked autoencoder, its encoder, or a classifier.

    Args:
      tensors: by the names of VideoMAE, VideoMAE V2 and MGMAE, or of Hugging Face's models; with the prefixes that
        wrappers leave ("module.", "_orig_mod.", "backbone.", ...).
      path: the file, for errors.

    Raises:
      WeightsError: it is another model; a tensor is missing, is not of a floating-point type, or has a name that maps
        to nothing.
    """
    named = _renamed({name: name for name in tensors}, _without_wrappers, path)
    if any("patch_embeddings.projection.weight" in name for name in named):
        layout: Layout = "hugging_face"
        named = _renamed(named, _hugging_face, path)
    elif any(name.endswith("patch_embed.proj.weight") for name in named):
        layout = "official"
        named = _renamed(named, _official, path)
    else:
        raise WeightsError(path, f"is not a video transformer of this family: it has {_some(list(tensors))}")
    found = {name: tensors[original] for name, original in named.items()}
    lines: list[Line] = []
    if layout == "official":
        found |= _split_biases(found, named, lines, path)
    parts = _parts(found, layout)
    if parts.head and parts.classifier and _norm(layout) in found and "fc_norm.weight" not in found:
        raise WeightsError(path, f"has a norm of every token and no fc_norm: {_FIRST_TOKEN}")
    expected = {name: _file_names(name, layout) for name in canonical_names(parts)}
    known = {name for names in expected.values() for name in names}
    _set_aside(found, known, named, lines, path)
    if missing := [official_name(name, parts) for name, names in expected.items() if not found.keys() >= set(names)]:
        what = "classifier" if parts.classifier else "encoder" if parts.decoder_depth is None else "masked autoencoder"
        raise WeightsError(path, f"is a {what} without {_some(missing)}")
    sources = {
        name: Source(tuple(named.get(part, part) for part in names), tuple(found[part] for part in names))
        for name, names in expected.items()
    }
    _check_types(sources, path)
    lines = [line for name, source in sources.items() for line in _used(name, source)] + lines
    if not parts.biases:
        lines.append(Line("missing", "q_bias and v_bias of all blocks", "0, as the file's model has none"))
    return Match(layout, parts, sources, tuple(lines))


def _renamed(named: Mapping[str, str], rename: Callable[[str], str], path: str) -> dict[str, str]:
    """A file's names by what `rename` makes of those that they had here.

    Raises:
      WeightsError: two come to the same.
    """
    found: dict[str, str] = {}
    for name, original in named.items():
        plain = rename(name)
        if plain in found:
            raise WeightsError(path, f"tensors {found[plain]!r} and {original!r} are two names of one")
        found[plain] = original
    return found


def _without_wrappers(name: str) -> str:
    return _WRAPPERS.sub("", name).replace("._orig_mod.", ".")


def _hugging_face(name: str) -> str:
    """A name of Hugging Face's, in the older of its two styles, as part of a whole model."""
    name = re.sub(r"\.(query|value)\.bias$", lambda found: f".{found[1][0]}_bias", name)
    return f"videomae.{name}" if name.startswith(("embeddings.", "encoder.layer.", "layernorm.")) else name


def _official(name: str) -> str:
    """The canonical form of an official name: a classifier's are without "encoder.", or all with it."""
    bare = name.removeprefix("encoder.")
    whole = bare if bare.startswith(("fc_norm.", "head.")) else name
    return whole if whole.startswith(_HALVES) else f"encoder.{whole}"


def _split_biases(
    found: dict[str, np.ndarray], named: dict[str, str], lines: list[Line], path: str
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Biases of queries and values from those that a file keeps in one tensor with the keys'.

    Raises:
      WeightsError: a file has some of them twice, or such a tensor does not hold three of one length.
    """
    split: dict[str, np.ndarray] = {}
    for name in [name for name in found if name.endswith(".attn.qkv.bias")]:
        bias, original = found.pop(name), named[name]
        place, width = name.removesuffix("qkv.bias"), bias.size // 3
        if twice := [named[f"{place}{part}"] for part in ("q_bias", "v_bias") if f"{place}{part}" in found]:
            raise WeightsError(path, f"has {twice[0]} and, in {original}, the same again")
        if bias.shape != (3 * width,):
            raise WeightsError(path, f"tensor {original} has the shape {list(bias.shape)}: give [3 * width]")
        split |= {f"{place}q_bias": bias[:width], f"{place}v_bias": bias[2 * width :]}
        named |= {f"{place}q_bias": original, f"{place}v_bias": original}
        lines.append(Line("unused", f"{original} (its middle third)", f"the keys' bias {_KEY_BIAS}"))
    return split


def _parts(found: Mapping[str, np.ndarray], layout: Layout) -> Parts:
    hugging = layout == "hugging_face"
    encoder = "videomae.encoder.layer" if hugging else "encoder.blocks"
    decoder = "decoder.decoder_layers" if hugging else "decoder.blocks"

    def depth(prefix: str) -> int:
        numbers = [re.match(rf"{re.escape(prefix)}\.(\d{{1,4}})\.", name) for name in found]
        return 1 + max((int(number[1]) for number in numbers if number), default=-1)

    has_decoder = any(name.startswith("decoder.") for name in found)
    classifier = any(name.startswith(("fc_norm.", "head.", "classifier.")) for name in found)
    head = any(name.startswith(("head.", "classifier.")) for name in found)
    norm = _norm(layout) in found
    return Parts(
        depth(encoder),
        depth(decoder) if has_decoder else None,
        norm=norm and not classifier,
        classifier=classifier,
        head=head,
        biases=any(name.endswith("q_bias") for name in found),
    )


def _norm(layout: Layout) -> str:
    return hugging_face_names("encoder.norm.weight")[0] if layout == "hugging_face" else "encoder.norm.weight"


def _file_names(name: str, layout: Layout) -> tuple[str, ...]:
    return hugging_face_names(name) if layout == "hugging_face" else (name,)


def _set_aside(
    found: dict[str, np.ndarray], known: set[str], named: Mapping[str, str], lines: list[Line], path: str
) -> None:
    """Explains the tensors that are not used.

    Raises:
      WeightsError: one has no explanation.
    """
    strays = []
    widths = {found[name].shape[-1:] for name in found if name == "mask_token" or name.endswith("norm1.weight")}
    widths |= {found[name].shape[-1:] for name in found if name.endswith("layernorm_before.weight")}
    for name in [name for name in found if name not in known]:
        tensor, original = found[name], named[name]
        if name.endswith(("pos_embed", "position_embeddings")) and tensor.ndim > 1:
            if not tensor.size or tensor.shape[-1:] not in widths:
                reason = f"has the shape {list(tensor.shape)}: give [1, tokens, width]"
                raise WeightsError(path, f"tensor {original} {reason}")
            table = position_table(int(np.prod(tensor.shape[:-1])), tensor.shape[-1])
            if not np.allclose(tensor.reshape(table.shape).astype(np.float32), table, atol=_rounding(tensor)):
                reason = (
                    "has learned positions, or another table than the published models': this project has only theirs"
                )
                raise WeightsError(path, f"tensor {original} {reason}")
            lines.append(Line("unused", original, _TABLE))
        elif name.endswith((".key.bias", ".attn.k_bias")):
            lines.append(Line("unused", original, _KEY_BIAS))
        else:
            strays.append(original)
    if strays:
        raise WeightsError(path, f"has tensors that map to nothing here: {_some(strays)}")


def _rounding(tensor: np.ndarray) -> float:
    """How far a value from -1 to 1 may be from that which a tensor was made of, by its type."""
    step = float(jnp.finfo(tensor.dtype).eps) if jnp.issubdtype(tensor.dtype, jnp.floating) else 0.0
    return max(1e-3, step)


def _check_types(sources: Mapping[str, Source], path: str) -> None:
    for name, source in sources.items():
        for original, tensor in zip(source.names, source.tensors, strict=True):
            if not jnp.issubdtype(tensor.dtype, jnp.floating):
                raise WeightsError(path, f"tensor {original} is {tensor.dtype}, not of a floating-point type")
            if not tensor.size or not tensor.ndim or (name.endswith(QKV) and tensor.ndim != 2):
                raise WeightsError(path, f"tensor {original} has the shape {list(tensor.shape)}")
        if len({tensor.shape[1:] for tensor in source.tensors}) > 1:
            raise WeightsError(path, f"tensors {_some(list(source.names))} have shapes that do not fit each other")


def _used(name: str, source: Source) -> list[Line]:
    shape = own_shape(name, source.shape)
    lines = []
    for original, tensor in zip(source.names, source.tensors, strict=True):
        same = len(source.tensors) == 1 and shape == tensor.shape and tensor.ndim < 2
        types = "" if tensor.dtype == np.float32 else f", {tensor.dtype} to float32"
        note = f"{own_name(name)} {list(shape)} from {list(tensor.shape)}{types}"
        lines.append(Line("used" if same else "reshaped", original, note))
    return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
