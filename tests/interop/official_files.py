"""Small models as the official programs and Hugging Face write them, of random weights."""

import argparse
import json
import pickle

import numpy as np
import safetensors.numpy

from mgmae_jax.interop.names import Parts, canonical_names, hugging_face_names, official_name
from tests.interop.torch_files import array_tensor, dictionary, integer, legacy, zipped

WIDTH, HEADS, MLP, DECODER, DECODER_HEADS, PATCH, TUBELET, CLASSES = 8, 2, 16, 4, 1, 4, 2, 3
AUTOENCODER = Parts(2, 1, norm=True)
ENCODER = Parts(2, norm=True)
CLASSIFIER = Parts(2, classifier=True)
FRAMES, SIZE = 4, 8


def shape_of(name):
    side = name.startswith("decoder.")
    width, mlp = (DECODER, 4 * DECODER) if side else (WIDTH, MLP)
    cube = (3, TUBELET, PATCH, PATCH)
    shapes = {
        "encoder.patch_embed.proj.weight": (WIDTH, *cube),
        "encoder_to_decoder.weight": (DECODER, WIDTH),
        "mask_token": (1, 1, DECODER),
        "decoder.head.weight": (int(np.prod(cube)), DECODER),
        "decoder.head.bias": (int(np.prod(cube)),),
        "head.weight": (CLASSES, WIDTH),
        "head.bias": (CLASSES,),
    }
    endings = {
        "qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "fc1.weight": (mlp, width),
        "fc1.bias": (mlp,),
        "fc2.weight": (width, mlp),
    }
    return shapes.get(name) or next((shape for end, shape in endings.items() if name.endswith(end)), (width,))


def canonical(parts, seed=0):
    """Tensors by canonical name."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(scale=0.3, size=shape_of(name)).astype(np.float32) for name in canonical_names(parts)}


def official(parts, seed=0):
    """Tensors by the official programs' names."""
    return {official_name(name, parts): tensor for name, tensor in canonical(parts, seed).items()}


def hugging_face(parts, seed=0):
    """Tensors by Hugging Face's names."""
    return {
        part: piece
        for name, tensor in canonical(parts, seed).items()
        for names in [hugging_face_names(name)]
        for part, piece in zip(names, np.split(tensor, len(names)) if len(names) > 1 else [tensor], strict=True)
    }


def plain(value):
    """The opcodes of a value that Python itself pickles."""
    return pickle.dumps(value, 2)[2:-1]


def state_dict(tensors, first=0, view=b"N"):
    """The opcodes of a state dict, and its storages; keys count from `first`."""
    keys = {name: str(first + number) for number, name in enumerate(tensors)}
    opcodes = dictionary({name: array_tensor(keys[name], tensor, view) for name, tensor in tensors.items()})
    return opcodes, {keys[name]: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def checkpoint(wrapped, *, zip_format=True, extra=()):
    """The bytes of a file with several state dicts: {"model": tensors, ...}, and other opcodes by name."""
    view, contents, storages = b"" if zip_format else b"N", {}, {}
    for name, tensors in wrapped.items():
        contents[name], more = state_dict(tensors, len(storages), view)
        storages |= more
    contents |= dict(extra)
    return (zipped if zip_format else legacy)(dictionary(contents), storages)


def training_extras():
    """What the official programs keep beside the weights: an epoch, options, an optimiser with numpy's numbers."""
    options = argparse.Namespace(num_frames=FRAMES, input_size=SIZE, model="vit_small", opt_betas=[0.9, 0.95])
    groups = [{"lr": np.float64(1e-3), "params": [0, 1], "betas": (0.9, 0.95)}]
    return {
        "epoch": integer(799),
        "args": plain(options),
        "optimizer": plain({"state": {0: {"step": 3}}, "param_groups": groups}),
        "ranges": plain([range(3), {1, 2}, frozenset("ab"), b"bytes", 1 + 2j]),
    }


def config(parts, **changes):
    """A config.json of a Hugging Face model."""
    task = "VideoMAEForVideoClassification" if parts.classifier else "VideoMAEForPreTraining"
    return {
        "architectures": [task],
        "model_type": "videomae",
        "num_frames": FRAMES,
        "image_size": SIZE,
        "num_attention_heads": HEADS,
        "decoder_num_attention_heads": DECODER_HEADS,
        "layer_norm_eps": 1e-12,
        "use_mean_pooling": parts.classifier,
        **changes,
    }


def write_folder(folder, parts, tensors=None, **changes):
    """A Hugging Face folder with safetensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(parts, **changes)))
    found = hugging_face(parts) if tensors is None else tensors
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save(found, {"format": "pt"}))
    return folder
