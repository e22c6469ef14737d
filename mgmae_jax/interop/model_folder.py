"""The folder that a Hugging Face model is kept in: the names of its files. It imports nothing but pathlib."""

from pathlib import Path

CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
"""The file of the weights, by preference."""
INDEX = ".index.json"
"""Ends the name, after that of the whole file, of the list of the parts that the weights are split into."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds a model as Hugging Face keeps it."""
    return any((path / f"{name}{ending}").is_file() for name in WEIGHTS_FILES for ending in ("", INDEX))
