"""Models of the Hugging Face Hub, downloaded by huggingface_hub into its own cache."""

import re
from pathlib import Path

from mgmae_jax.errors import MgmaeError
from mgmae_jax.interop.model_folder import is_model_folder

SCHEME = "hf://"
_PLACE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:/([\w./-]+))?(?:@([\w./-]+))?")
_FORM = "hf://OWNER/NAME, hf://OWNER/NAME/FILE, either with @REVISION"
_INSTALL = "pip install 'mgmae-jax[hub]'"


def is_on_hub(place: str) -> bool:
    """Whether a text names a model of the Hub."""
    return place.startswith(SCHEME)


def download(place: str) -> tuple[Path, str]:
    """Downloads a model, if it is not in the cache.

    Args:
      place: hf://OWNER/NAME for a Hugging Face model, hf://OWNER/NAME/FILE for one file of a repository; both may end
        in @REVISION, a branch, tag or commit.

    Returns:
      The local folder or file, and the commit that it is of.

    Raises:
      MgmaeError: the text has another form, huggingface_hub is not installed, the download fails, or the repository
        keeps its weights in files of other names, of which one has to be chosen.
    """
    form = _PLACE.fullmatch(place)
    if form is None or ".." in place:
        raise MgmaeError(f"{place}: give {_FORM}.")
    try:
        import huggingface_hub
    except ImportError as error:
        raise MgmaeError(f"{place}: downloading needs huggingface_hub: {_INSTALL}; or give a local path.") from error
    name, file, revision = form.groups()
    try:
        if file:
            found = Path(huggingface_hub.hf_hub_download(name, file, revision=revision))
        else:
            found = _snapshot(name, revision)
    except Exception as error:  # the library raises many kinds, of its own and of its network layer
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        remedy = "look at the name and the network, or download it elsewhere and give the folder's path"
        raise MgmaeError(f"{place}: cannot be downloaded ({type(error).__name__}: {reason}): {remedy}.") from error
    if not file and not is_model_folder(found):
        raise MgmaeError(
            f"{place}: what was downloaded has no model.safetensors and no pytorch_model.bin; give the repository's "
            f"file of weights, as {SCHEME}{name}/FILE{f'@{revision}' if revision else ''}."
        )
    return found, _commit(found) or revision or "unknown"


def _snapshot(name: str, revision: str | None) -> Path:
    import huggingface_hub

    found = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    if not any(found.glob("*.safetensors")):  # an older repository: PyTorch's format
        bins = ["*.json", "pytorch_model*.bin"]
        found = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=bins))
    return found


def _commit(found: Path) -> str | None:
    """The commit in the cache's path: .../snapshots/COMMIT/..."""
    parts = found.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None
