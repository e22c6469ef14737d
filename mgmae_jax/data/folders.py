"""The videos in a folder and its sub-folders: files by their extensions, or folders of frames."""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping
from pathlib import Path, PurePath

from absl import logging

from mgmae_jax.errors import FileError

EXTENSIONS = (
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc",
    ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
    ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv",
    ".y4m",
)  # fmt: skip
"""Extensions of videos, in lower case."""
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Extensions of pictures, in lower case."""
# What usually lies beside videos; that these are left out need not be said.
_BESIDE = PICTURES | {
    ".aac", ".ass", ".avif", ".csv", ".db", ".doc", ".docx", ".exif", ".flac", ".flo", ".gz", ".heic", ".htm", ".html",
    ".ini", ".ipynb", ".jsonl", ".json", ".lock", ".log", ".m3u", ".m3u8", ".m4a", ".md", ".md5", ".mp3", ".nfo",
    ".npy", ".npz", ".ogg", ".opus", ".parquet", ".part", ".pdf", ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc",
    ".rar", ".rst", ".rtf", ".safetensors", ".sh", ".sha1", ".sha256", ".srt", ".ssa", ".svg", ".tar", ".tgz", ".toml",
    ".tsv", ".txt", ".url", ".vtt", ".wav", ".xls", ".xlsx", ".xml", ".xmp", ".yaml", ".yml", ".zip",
}  # fmt: skip
_SHOWN = 5  # extensions named in a message


def is_video(name: str) -> bool:
    """Whether a file's name ends as a video's does."""
    return name.lower().endswith(EXTENSIONS)


def find_in_folder(root: Path) -> list[PurePath]:
    """The videos in a folder and its sub-folders.

    Links are followed, each folder once. Files and folders whose name starts with a dot are hidden. Files that may be
    videos of another extension are left out, and counted in a warning. Where there is no video file, every folder that
    holds little else than pictures is a video: a folder of frames.

    Args:
      root: the folder.

    Returns:
      Paths relative to it, sorted by their parts.

    Raises:
      FileError: a folder cannot be listed, or there is no video.
    """
    found: list[PurePath] = []
    others: collections.Counter[str] = collections.Counter()
    of_frames: list[PurePath] = []
    seen = set()

    def fail(error: OSError) -> None:
        raise FileError(error.filename or root, f"cannot be listed ({error.strerror})")

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        # Sorted, so that the same one of two links to a folder is followed on every machine.
        subfolders[:] = [] if real in seen else sorted(name for name in subfolders if not name.startswith("."))
        if real not in seen:
            inside = PurePath(folder).relative_to(root)
            if _holds_pictures(files):
                of_frames.append(inside)
            for name in files:
                if name.startswith("."):  # macOS leaves "._a.mp4" beside "a.mp4", and it is not a video.
                    continue
                if is_video(name):
                    found.append(inside / name)
                else:
                    others[os.path.splitext(name)[1].lower()] += 1
        seen.add(real)
    if not found and PurePath() in of_frames:
        raise FileError(root, "is itself a folder of frames, a single video: give the folder that it is in")
    if not found and of_frames:
        return sorted(of_frames, key=lambda video: video.parts)
    if not found:
        raise FileError(root, _nothing(others))
    unknown = {extension: count for extension, count in others.items() if extension not in _BESIDE}
    if unknown:
        logging.warning("%s: %s left out: %s", root, _files(sum(unknown.values())), _counts(unknown))
    return sorted(found, key=lambda video: video.parts)


def _holds_pictures(files: list[str]) -> bool:
    """Whether most files of a folder are pictures with a number in their name."""
    pictures = sum(
        os.path.splitext(name)[1].lower() in PICTURES and any(character.isdigit() for character in name)
        for name in files
    )
    return pictures > 1 and pictures > len(files) / 2


def _nothing(others: Mapping[str, int]) -> str:
    if not others:
        return "holds no video: it is empty"
    total = sum(others.values())
    reason = f"holds no video; its {_files(total)} {'is' if total == 1 else 'are'} {_counts(others)}"
    return f"{reason} (videos end in {' '.join(EXTENSIONS)})"


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _counts(extensions: Mapping[str, int]) -> str:
    """The most frequent extensions with their counts: ".jpg (120), without extension (2)"."""
    ordered = sorted(extensions.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{extension or 'without extension'} ({count})" for extension, count in ordered[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(ordered) - _SHOWN} other kinds" if len(ordered) > _SHOWN else "")
