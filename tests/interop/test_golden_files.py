"""Files in the forms that the official programs and Hugging Face write, with their models' outputs."""

import csv
import json

import av
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.interop.model_file import Asked
from tests.interop.run_models import classify, reconstruct
from tests.shared_data import shared

ASKED = Asked(heads=3, decoder_heads=2)
CLASSIFIERS = ("mgmae_finetune_ema", "backbone_prefix", "videomae_finetune", "videomae_finetune_deepspeed")
AUTOENCODERS = ("mgmae_pretrain", "videomae_pretrain", "videomae_pretrain_legacy")
EXACT = {"rtol": 0, "atol": 1e-5}


def arrays(path):
    with np.load(shared(f"golden/{path}")) as found:
        return {name: found[name] for name in found.files}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_official_classifiers(name):
    want = arrays(f"official_checkpoints/{name}.npz")
    features, logits = classify(shared(f"golden/official_checkpoints/{name}.pth"), want["clip_uint8"], ASKED)
    np.testing.assert_allclose(logits, want["logits"], **EXACT)
    np.testing.assert_allclose(features, want["features"], **EXACT)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_official_autoencoders(name):
    want = arrays(f"official_checkpoints/{name}.npz")
    path = shared(f"golden/official_checkpoints/{name}.pth")
    latent, prediction = reconstruct(path, want["clip_uint8"], want["mask"], ASKED)
    np.testing.assert_allclose(latent, want["latent"], **EXACT)
    np.testing.assert_allclose(prediction, want["prediction"], **EXACT)


def test_these_are_all_of_the_files():
    manifest = json.loads(shared("golden/official_checkpoints/manifest.json").read_text())
    assert set(manifest) == {*CLASSIFIERS, *AUTOENCODERS}


@pytest.mark.parametrize("where", ["", "/new_names", "/pytorch_model.bin"])
def test_hugging_face_models(where):
    want = arrays("huggingface/classify_tiny/io.npz")
    _, logits = classify(shared(f"golden/huggingface/classify_tiny{where}"), want["clip_uint8"], Asked())
    np.testing.assert_allclose(logits, want["logits"], **EXACT)
    want = arrays("huggingface/pretrain_tiny/io.npz")
    place = shared(f"golden/huggingface/pretrain_tiny{where}")
    latent, prediction = reconstruct(place, want["clip_uint8"], want["bool_masked_pos"], Asked())
    np.testing.assert_allclose(latent, want["latent"], **EXACT)
    np.testing.assert_allclose(prediction, want["logits"], **EXACT)


def test_the_command_evaluates_an_official_file(tmp_path):
    path = shared("golden/official_checkpoints/videomae_finetune.pth")
    want = arrays("official_checkpoints/videomae_finetune.npz")
    for number, clip in enumerate(want["clip_uint8"]):
        with av.open(str(tmp_path / f"{number}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "bgr0"
            for frame in clip:
                picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="bgr0")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    (tmp_path / "list.csv").write_text("path,label\n0.mkv,0\n1.mkv,6\n")
    fields = {"path": tmp_path / "list.csv", "sampling": "uniform", "clips": 1, "crops": 1, "clips_per_device": 2}
    overrides = [f"--config.eval.{name}={value}" for name, value in fields.items()]
    overrides += ["--config.clip.frames=16", "--config.clip.size=64", "--config.data.workers=0"]
    argv = ["evaluate", "--checkpoint", str(path), "--heads", "3", "--out", str(tmp_path / "out")]
    assert main([*argv, *overrides]) == 0
    shares = np.exp(want["logits"]) / np.exp(want["logits"]).sum(axis=1, keepdims=True)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        for row, share in zip(csv.DictReader(file), shares, strict=True):
            best = np.argsort(-share)[:5]
            assert row["top5"].split() == [str(label) for label in best]
            found = [float(value) for value in row["top5_probabilities"].split()]
            np.testing.assert_allclose(found, share[best], **EXACT)
