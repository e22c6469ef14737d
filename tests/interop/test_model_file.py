import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.model_file import Asked, read_model
from mgmae_jax.interop.names import Parts, canonical_names, from_own, own_name
from mgmae_jax.models.layers import position_table
from tests.interop import official_files as files
from tests.interop.official_files import AUTOENCODER, CLASSIFIER, ENCODER, checkpoint, official, training_extras
from tests.interop.torch_files import dictionary, zipped

HEADLESS = Parts(2, classifier=True, head=False)
KINDS = ["autoencoder", "encoder", "classifier", "headless"]
ASKED = Asked(heads=files.HEADS, decoder_heads=files.DECODER_HEADS)


def read(tmp_path, data, asked=ASKED, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else safetensors.numpy.save(data))
    return read_model(path, asked)


def assert_holds(model, parts, seed=0):
    """That the leaves are the canonical tensors of `seed`, in this project's layout."""
    wanted = files.canonical(parts, seed)
    assert set(model.leaves) == {own_name(name) for name in wanted}
    for name, tensor in wanted.items():
        leaf = model.leaves[own_name(name)]
        found = leaf.read()
        assert found.shape == leaf.shape
        back = from_own(name, np.asarray(found, np.float32), (files.TUBELET, files.PATCH))
        np.testing.assert_array_equal(back, tensor)


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize("parts", [AUTOENCODER, ENCODER, CLASSIFIER, HEADLESS], ids=KINDS)
def test_a_checkpoint_with_all_that_training_leaves_in_it(tmp_path, parts, zip_format):
    model = read(tmp_path, checkpoint({"model": official(parts)}, zip_format=zip_format, extra=training_extras()))
    assert_holds(model, parts)
    assert (model.kind, model.decoder_depth) == ("finetune" if parts.classifier else "pretrain", parts.decoder_depth)
    assert (model.tubelet, model.patch, model.variant.heads) == (files.TUBELET, files.PATCH, files.HEADS)
    assert (model.variant.width, model.variant.depth, model.variant.mlp) == (files.WIDTH, 2, files.MLP)
    assert (model.frames, model.size, model.clip_from) == (files.FRAMES, files.SIZE, "the options in the file")
    assert model.classes == (("0", "1", "2") if parts is CLASSIFIER else None)
    assert len(model.lines) == len(canonical_names(parts))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "_orig_mod.", "module._orig_mod.", "model.", "encoder."])
def test_prefixes_of_wrappers_are_left_out(tmp_path, prefix):
    assert_holds(
        read(tmp_path, {f"{prefix}{name}": tensor for name, tensor in official(CLASSIFIER).items()}), CLASSIFIER
    )


def test_a_compiled_encoder_inside(tmp_path):
    inner = {name.replace("encoder.", "encoder._orig_mod.", 1): t for name, t in official(AUTOENCODER).items()}
    assert_holds(read(tmp_path, inner), AUTOENCODER)


@pytest.mark.parametrize("take", ["model_ema", "state_dict.inner"])
def test_the_state_dict_that_is_asked_for(tmp_path, take):
    names = ["model_ema", "model", "module"]
    wrapped = {name: official(CLASSIFIER, seed) for seed, name in enumerate(names)}
    inner, storages = files.state_dict(official(CLASSIFIER, 3), view=b"")
    data = checkpoint(wrapped)
    default = read(tmp_path, data)
    assert (default.file.taken, default.file.others) == ("model", ("model_ema", "module"))
    assert_holds(default, CLASSIFIER, 1)
    if take == "model_ema":
        assert_holds(read(tmp_path, data, Asked(take, 2)), CLASSIFIER, 0)
    else:
        nested = zipped(dictionary({"state_dict": dictionary({"inner": inner})}), storages)
        assert_holds(read(tmp_path, nested, Asked(take, 2)), CLASSIFIER, 3)


@pytest.mark.parametrize("style", ["old", "new", "bin", "split"])
@pytest.mark.parametrize("parts", [AUTOENCODER, CLASSIFIER], ids=["autoencoder", "classifier"])
def test_hugging_face_folders(tmp_path, parts, style):
    tensors = files.hugging_face(parts)
    if style == "new":
        tensors = {
            name.replace("q_bias", "query.bias").replace("v_bias", "value.bias"): t for name, t in tensors.items()
        }
    folder = files.write_folder(tmp_path / "hf", parts, tensors, id2label={"0": "run", "1": "jump", "2": "sit"})
    whole = folder / "model.safetensors"
    if style == "bin":
        (folder / "pytorch_model.bin").write_bytes(zipped(*files.state_dict(tensors, view=b"")))
        whole.unlink()
    elif style == "split":
        names = list(tensors)
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, part in halves.items():
            (folder / file).write_bytes(safetensors.numpy.save({name: tensors[name] for name in part}))
        places = {name: file for file, part in halves.items() for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        whole.unlink()
    model = read_model(folder)
    assert_holds(model, parts)
    assert (model.variant.eps, model.variant.last_eps, model.variant.heads) == (1e-12, 1e-5, files.HEADS)
    assert (model.frames, model.size, model.clip_from) == (files.FRAMES, files.SIZE, "config.json")
    assert model.classes == (("run", "jump", "sit") if parts.classifier else None)


def test_a_hugging_face_encoder_alone(tmp_path):
    tensors = {name.removeprefix("videomae."): t for name, t in files.hugging_face(ENCODER).items()}
    assert_holds(read_model(files.write_folder(tmp_path / "hf", ENCODER, tensors)), ENCODER)


def test_biases_in_one_tensor_and_tensors_that_are_not_needed(tmp_path):
    tensors = official(CLASSIFIER)
    for block in range(2):
        query, value = (tensors.pop(f"blocks.{block}.attn.{part}_bias") for part in "qv")
        tensors[f"blocks.{block}.attn.qkv.bias"] = np.concatenate([query, np.full_like(query, 7), value])
    tensors["pos_embed"] = position_table(8, files.WIDTH)[None]
    model = read(tmp_path, tensors)
    assert_holds(model, CLASSIFIER)
    unused = {line.name: line.note for line in model.lines if line.status == "unused"}
    assert list(unused) == [
        "blocks.0.attn.qkv.bias (its middle third)",
        "blocks.1.attn.qkv.bias (its middle third)",
        "pos_embed",
    ]
    with pytest.raises(WeightsError, match="tensor pos_embed has learned positions"):
        read(tmp_path, tensors | {"pos_embed": tensors["pos_embed"] + 0.1})


def test_a_model_without_biases_has_zeros(tmp_path):
    bare = Parts(2, classifier=True, biases=False)
    model = read(tmp_path, official(bare))
    assert not model.leaves["encoder.blocks.block_1.attn.q_bias"].read().any()
    assert [line.note for line in model.lines if line.status == "missing"] == ["0, as the file's model has none"]


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_other_floating_point_types_are_converted(tmp_path, dtype):
    dtype = np.dtype(dtype)
    model = read(tmp_path, {name: tensor.astype(dtype) for name, tensor in official(CLASSIFIER).items()})
    np.testing.assert_array_equal(
        np.asarray(model.leaves["head.bias"].read(), np.float32),
        official(CLASSIFIER)["head.bias"].astype(dtype).astype(np.float32),
    )
    assert all(f"{dtype} to float32" in line.note for line in model.lines)


def test_heads_are_asked_for_where_nothing_says_them(tmp_path):
    for asked, flag in ((Asked(), "--heads"), (Asked(heads=2), "--decoder-heads")):
        with pytest.raises(WeightsError, match=rf"does not say how many attention heads .* has: give {flag}"):
            read(tmp_path, official(AUTOENCODER), asked)
    with pytest.raises(WeightsError, match=r"cannot have 3 attention heads: --heads divides 8 \(width\)"):
        read(tmp_path, official(AUTOENCODER), Asked(heads=3, decoder_heads=1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"blocks.0.attn.gamma": (8,)}, r"map to nothing here: blocks\.0\.attn\.gamma"),
        ({"cls_token": (1, 1, 8)}, r"map to nothing here: cls_token"),
        ({"head.weight": None}, r"is a classifier without head\.weight"),
        ({"fc_norm.bias": None}, r"is a classifier without fc_norm\.bias"),
        ({"norm.weight": (8,), "norm.bias": (8,)}, r"has tensors that map to nothing here: norm\.bias, norm\.weight"),
        (
            {"fc_norm.weight": None, "fc_norm.bias": None, "norm.weight": (8,), "norm.bias": (8,)},
            "no fc_norm: its head sees the first token alone",
        ),
        (
            {"blocks.0.attn.qkv.bias": (24,)},
            r"has blocks\.0\.attn\.q_bias and, in blocks\.0\.attn\.qkv\.bias, the same",
        ),
        ({"encoder.blocks.0.norm1.bias": (8,)}, r"'blocks\.0\.norm1\.bias' and 'encoder\.blocks.* two names of one"),
        ({"encoder.head.bias": (3,)}, "are two names of one"),
        ({"pos_embed": (1, 0, 8)}, r"pos_embed has the shape \[1, 0, 8\]"),
        ({"pos_embed": (1, 8, 16)}, r"pos_embed has the shape \[1, 8, 16\]"),
        ({"blocks.0.mlp.fc1.bias": None}, r"without blocks\.0\.mlp\.fc1\.bias"),
        ({"patch_embed.proj.weight": None}, r"is not a video transformer of this family"),
        ({"patch_embed.proj.weight": (8, 3, 4, 4)}, r"kernel of \[8, 3, 4, 4\]"),
        ({"blocks.1.attn.qkv.weight": (24, 9)}, r"blocks\.1\.attn\.qkv\.weight has the shape \[24, 9\].*\[24, 8\]"),
        ({"blocks.1.norm1.weight": (9,)}, r"norm1\.weight has the shape \[9\]"),
        ({"blocks.0.mlp.fc1.weight": ()}, r"has the shape \[\]"),
        ({"module.head.bias": (3,)}, "are two names of one"),
    ],
)
def test_other_tensors_are_an_error(tmp_path, change, match):
    tensors = official(CLASSIFIER)
    for name, shape in change.items():
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = np.zeros(shape, np.float32)
    with pytest.raises(WeightsError, match=match):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "vit"}, "model of type 'vit'"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"norm_pix_loss": False}, "norm_pix_loss=False"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"image_size": [8, 9]}, r"image_size=\[8, 9\]"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps='small'"),
        ({"num_attention_heads": 3}, "cannot have 3 attention heads"),
        ({"use_mean_pooling": False}, "sees the first token alone"),
        ({"id2label": {"0": "a", "2": "b", "3": "c"}}, "from 0 on: it has 3 names, and none for 1"),
        ({"hidden_size": 768}, "hidden_size=768, and the tensors have 8"),
        ({"num_hidden_layers": 12}, "num_hidden_layers=12, and the tensors have 2"),
        ({"tubelet_size": 4}, "tubelet_size=4, and the tensors have 2"),
        ({"id2label": {"0": "a", "1": "b"}}, "names 2 classes, and the head has 3"),
    ],
)
def test_other_descriptions_are_an_error(tmp_path, changes, match):
    with pytest.raises(WeightsError, match=match):
        read_model(files.write_folder(tmp_path / "hf", CLASSIFIER, **changes))


def test_a_decoder_of_another_size_than_described(tmp_path):
    with pytest.raises(WeightsError, match="decoder_num_hidden_layers=4, and the tensors have 1"):
        read_model(files.write_folder(tmp_path / "hf", AUTOENCODER, decoder_num_hidden_layers=4))


def test_both_styles_of_a_name(tmp_path):
    tensors = files.hugging_face(CLASSIFIER)
    old = next(name for name in tensors if name.endswith("q_bias"))
    tensors[old.replace("q_bias", "query.bias")] = tensors[old]
    with pytest.raises(WeightsError, match=r"q_bias' and .*query\.bias' are two names of one"):
        read_model(files.write_folder(tmp_path / "hf", CLASSIFIER, tensors))


def test_biases_of_no_three_of_one_length(tmp_path):
    tensors = {name: tensor for name, tensor in official(CLASSIFIER).items() if not name.endswith(("q_bias", "v_bias"))}
    for shape in ((25,), (), (8, 3)):
        with pytest.raises(WeightsError, match=r"qkv\.bias has the shape \["):
            read(tmp_path, tensors | {"blocks.0.attn.qkv.bias": np.zeros(shape, np.float32)})


def test_tables_of_encoder_and_decoder(tmp_path):
    tables = {"pos_embed": position_table(8, files.DECODER)[None]}
    tables["encoder.pos_embed"] = position_table(8, files.WIDTH)[None]
    assert_holds(read(tmp_path, official(AUTOENCODER) | tables), AUTOENCODER)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float32])
def test_a_table_in_half_precision_is_the_table(tmp_path, dtype):
    table = np.asarray(position_table(1568, files.WIDTH)[None], dtype)
    model = read(tmp_path, official(CLASSIFIER) | {"pos_embed": table})
    assert [line.name for line in model.lines if line.status == "unused"] == ["pos_embed"]
    with pytest.raises(WeightsError, match="tensor pos_embed has learned positions"):
        read(tmp_path, official(CLASSIFIER) | {"pos_embed": table + np.asarray(0.05, dtype)})


def test_queries_keys_and_values_of_two_half_precisions(tmp_path):
    tensors = files.hugging_face(CLASSIFIER)
    types = {"query": jnp.bfloat16, "key": np.float16, "value": np.float16}
    place = "videomae.encoder.layer.0.attention.attention"
    for part, dtype in types.items():
        tensors[f"{place}.{part}.weight"] = np.asarray(tensors[f"{place}.{part}.weight"], dtype)
    model = read_model(files.write_folder(tmp_path / "hf", CLASSIFIER, tensors))
    found = model.leaves["encoder.blocks.block_0.attn.qkv.kernel"].read()
    wanted = np.concatenate([np.asarray(tensors[f"{place}.{part}.weight"], np.float32) for part in types])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted.T)


def test_the_other_state_dicts_of_a_file_are_named(tmp_path):
    data = checkpoint({"sampler": {"state": np.zeros(3, np.float32)}, "net": official(CLASSIFIER)})
    with pytest.raises(WeightsError, match="it has state; this is its 'sampler': --take gives net"):
        read(tmp_path, data)
    assert_holds(read(tmp_path, data, Asked("net", 2)), CLASSIFIER)


def test_a_published_size_is_known_by_its_tensors(tmp_path, monkeypatch):
    sizes = {"WIDTH": 384, "MLP": 1536, "DECODER": 192, "PATCH": 16}
    for name, value in sizes.items():
        monkeypatch.setattr(files, name, value)
    parts = Parts(12, 1, norm=True)
    monkeypatch.setattr(files, "canonical", lambda parts, seed=0: {
        name: np.zeros(files.shape_of(name), np.float32) for name in canonical_names(parts)
    })  # fmt: skip
    model = read(tmp_path, official(parts), Asked())
    assert (model.variant.heads, model.variant.decoder_heads, model.decoder_depth) == (6, 3, 1)
