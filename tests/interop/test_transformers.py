"""Parity with the models of Hugging Face's transformers, which the extra `interop` installs."""

import os
import warnings

import numpy as np
import pytest
import safetensors.numpy

from mgmae_jax.cli import main
from mgmae_jax.interop.model_file import Asked, read_model
from mgmae_jax.interop.names import Parts, canonical_names, hugging_face_names, official_name
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from tests.interop.run_models import classify, reconstruct

pytestmark = pytest.mark.filterwarnings("ignore")  # those of PyTorch and transformers are not ours to fix
CLOSE = {"rtol": 0, "atol": 1e-4}
CLASSES = 5
SIZES = {
    "tiny": {
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 192,
        "decoder_hidden_size": 24, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 96, "num_frames": 4, "image_size": 32,
    },
    "vit_s": {
        "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536,
        "decoder_hidden_size": 192, "decoder_num_hidden_layers": 4, "decoder_num_attention_heads": 3,
        "decoder_intermediate_size": 768, "num_frames": 4, "image_size": 64,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="the extra `interop` installs PyTorch")


@pytest.fixture(scope="module")
def transformers(torch):
    os.environ["HF_HUB_OFFLINE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="the extra `interop` installs transformers")


@pytest.fixture(scope="module", params=SIZES)
def sizes(request):
    return SIZES[request.param]


@pytest.fixture(scope="module", params=["classifier", "autoencoder"])
def theirs(request, torch, transformers, sizes, tmp_path_factory):
    """A model of theirs with random weights, and the folder that they save it in."""
    torch.manual_seed(0)
    classifier = request.param == "classifier"
    names = {str(label): f"class {label}" for label in range(CLASSES)}
    config = transformers.VideoMAEConfig(
        **sizes, use_mean_pooling=classifier, **({"id2label": names} if classifier else {})
    )
    kind = transformers.VideoMAEForVideoClassification if classifier else transformers.VideoMAEForPreTraining
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases, norms and the mask token begin as constants
            parameter += 0.05 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("theirs") / "model"
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def clip(sizes):
    shape = (2, sizes["num_frames"], sizes["image_size"], sizes["image_size"], 3)
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def hidden(sizes):
    tokens = sizes["num_frames"] // 2 * (sizes["image_size"] // 16) ** 2
    marks = np.zeros((2, tokens), bool)
    for row, rng in zip(marks, map(np.random.default_rng, (2, 3)), strict=True):
        row[rng.permutation(tokens)[: tokens * 3 // 4]] = True
    return marks


def their_output(torch, model, clip, hidden):
    pixels = (clip.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    pixels = torch.from_numpy(pixels.transpose(0, 1, 4, 2, 3).astype(np.float32))
    with torch.no_grad():
        if is_classifier(model):
            return model(pixel_values=pixels).logits.numpy()
        return model(pixel_values=pixels, bool_masked_pos=torch.from_numpy(hidden)).logits.numpy()


def our_output(place, model, clip, hidden, asked=Asked()):  # noqa: B008  # frozen
    return classify(place, clip, asked)[1] if is_classifier(model) else reconstruct(place, clip, hidden, asked)[1]


def is_classifier(model):
    return type(model).__name__ == "VideoMAEForVideoClassification"


def test_their_models_here(torch, theirs, clip, hidden):
    model, folder = theirs
    want = their_output(torch, model, clip, hidden)
    assert want.std() > 0.1
    np.testing.assert_allclose(our_output(folder, model, clip, hidden), want, **CLOSE)


def test_our_models_there(torch, theirs, clip, hidden, sizes, tmp_path):
    """From a file of the official programs through a run of this project to a model of theirs."""
    model, folder = theirs
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    decoder = None if is_classifier(model) else sizes["decoder_num_hidden_layers"]
    parts = Parts(sizes["num_hidden_layers"], decoder, norm=decoder is not None, classifier=decoder is None)
    whole = {
        official_name(name, parts): torch.from_numpy(
            np.concatenate([tensors[part] for part in hugging_face_names(name)])
        )
        for name in canonical_names(parts)
    }
    torch.save(
        {"model": whole, "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1)}]}},
        tmp_path / "a.pth",
    )
    heads = ["--heads", str(sizes["num_attention_heads"])]
    heads += ["--decoder-heads", str(sizes["decoder_num_attention_heads"])] if decoder else []
    clips = [f"--config.clip.frames={clip.shape[1]}", f"--config.clip.size={clip.shape[2]}"]
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "run"), *heads, *clips]) == 0
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "hf"), "--to", "huggingface"]) == 0
    opened, report = type(model).from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())
    found = their_output(torch, opened.eval(), clip, hidden)
    np.testing.assert_allclose(our_output(tmp_path / "run", model, clip, hidden), found, **CLOSE)
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "b.pth")]) == 0
    again = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    asked = Asked(heads=sizes["num_attention_heads"], decoder_heads=sizes["decoder_num_attention_heads"])
    read = read_model(tmp_path / "b.pth", asked)
    assert (read.frames, read.size) == (sizes["num_frames"], sizes["image_size"])


def test_a_round_trip_keeps_every_bit(theirs, tmp_path):
    model, folder = theirs
    assert main(["convert", str(folder), str(tmp_path / "run")]) == 0
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "hf"), "--to", "huggingface"]) == 0
    opened, report = type(model).from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())
    before, after = model.state_dict(), opened.state_dict()
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    for field in ("layer_norm_eps", "num_attention_heads", "id2label", "num_frames", "use_mean_pooling"):
        assert getattr(opened.config, field) == getattr(model.config, field)


def test_the_preprocessor_is_theirs(transformers, theirs, tmp_path):
    pytest.importorskip("PIL")
    model, folder = theirs
    assert main(["convert", str(folder), str(tmp_path / "hf"), "--to", "huggingface"]) == 0
    with open(tmp_path / "hf" / "preprocessor_config.json") as file:
        assert '"VideoMAEImageProcessor"' in file.read()
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
    except ImportError as error:  # transformers 5 needs torchvision for it
        pytest.skip(str(error).strip().splitlines()[0])
    frames = [np.zeros((70, 90, 3), np.uint8)] * model.config.num_frames
    side = model.config.image_size
    assert processor(frames, return_tensors="pt").pixel_values.shape == (1, len(frames), 3, side, side)
